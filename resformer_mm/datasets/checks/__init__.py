"""Validation of data sets before training; one module per task."""
