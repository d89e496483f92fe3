"""Annotation formats of labelling tools, and recognition of the data in a folder.

Each format is a module with three functions: ``is_found`` looks whether a folder has it, ``read`` returns an
:class:`~resformer_mm.formats.annotated.AnnotatedData`, and ``write`` makes files of one and says what is
lost. :mod:`resformer_mm.formats.conversion` has the table of the formats, and
:mod:`resformer_mm.formats.recognition` also knows the layouts of the other tasks.
"""
