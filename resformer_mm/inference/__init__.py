"""High-level inference at any resolution, shared by the inferencers of all tasks."""
