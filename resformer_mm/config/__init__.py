"""Reading of configs, and the resolutions in them."""
