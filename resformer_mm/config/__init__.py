"""Reading configs, and the resolutions in them."""
