"""What can go wrong with a study."""


class UsageError(Exception):
    """A command can't be carried out as it was given."""


class StudyError(Exception):
    """A study file is not one, or asks for what can't be done."""


class StudyFailed(Exception):
    """A study broke off midway; what was reported is kept."""


class NoTrialSucceeded(Exception):
    """A study ended and no trial of it had the whole budget."""


class TargetNotReached(Exception):
    """A study ended, a winner was found, and it misses the target that was required."""


class NotReproduced(Exception):
    """A trial was trained again, and came out otherwise than it was recorded."""
