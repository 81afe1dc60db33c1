"""What can be wrong with a run directory."""


class RunError(Exception):
    """A run directory is missing, not one of ours, damaged, or written by a later version."""


class StorageError(OSError):
    """Shared storage does not do what is asked, and trying again for a minute did not help."""


class RunWarning(UserWarning):
    """Something about a run directory that its user should know and that stops nothing."""
