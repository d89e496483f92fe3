"""Data: samplers, collation, data sets, transforms, and the generator of the embedded data.

The registries import the modules that a config asks for; importing this package imports none of them.
"""
