"""What can go wrong with a cluster."""


class ClusterError(Exception):
    """A cluster can't be joined, or has not what a study asks for."""


class ClusterWarning(UserWarning):
    """Something about a cluster that its user should know."""
