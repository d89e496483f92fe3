"""The tasks, one folder each.

A task's folder is the only place that imports its upstream library. The ``__init__.py`` of a task is its
manifest. It imports none of its modules, names the ``LIBRARY``, and maps for each registry the names of the
registered classes to the modules that define them. ``resformer_mm.registry`` reads it. In Python, each class
is an attribute of the manifest, which is imported when it is first used.
"""
