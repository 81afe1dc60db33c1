"""What can go wrong with data, pictures and saved models."""


class DataError(Exception):
    """A data set is unknown, missing or damaged."""


class ImageError(Exception):
    """A picture can't be read, or shows nothing."""


class ModelError(Exception):
    """A model folder can't be loaded."""


class ExportError(Exception):
    """A model's file for other programs does not compute what the model does."""
