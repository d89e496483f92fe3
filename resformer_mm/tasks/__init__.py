"""The tasks: one folder each, the only place that imports its upstream library.

The ``__init__.py`` of a task is its manifest: it imports nothing, names the ``LIBRARY``, and lists what the
task registers, for each registry a mapping from class name to module of the folder. It is read by
``resformer_mm.registry``.
"""
