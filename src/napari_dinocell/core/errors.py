"""Errors that a caller may want to catch by kind.

Wrong values are `ValueError`, wrong kinds `TypeError`, absent files `FileNotFoundError`.
"""


class Cancelled(Exception):
    """The caller's `cancel` callable asked to stop; nothing was written."""


class ImageFileError(ValueError):
    """An image file cannot be read, or its axes are not known."""


class ModelFileError(ValueError):
    """A model file is missing parts, damaged, foreign, or made for another architecture."""


class OutputFileError(OSError):
    """A result cannot be written; nothing half-written was left."""


class StreamError(OSError):
    """Fields for pre-training cannot be streamed: no answer, or too many of them are broken."""
