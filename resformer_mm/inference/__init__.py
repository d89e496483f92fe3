"""Prediction on files and arrays at any resolution: what the inferencers of all tasks share."""
