"""Data preprocessors, adapters to one library each; each module is imported when it is asked for."""
