"""High-level inference at any resolution: what the inferencers of all tasks share."""
