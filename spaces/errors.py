"""What can be wrong with a space."""


class SpaceError(ValueError):
    """A parameter or a space can't be what it says it is."""
