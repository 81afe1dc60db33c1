"""What can be wrong with a run directory."""


class RunError(Exception):
    """A run directory is missing, not one of ours, damaged, or written by a later version."""
