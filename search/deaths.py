"""Why a process that trained a trial has died."""

import re
from pathlib import Path

from ray.exceptions import ActorUnavailableError, NodeDiedError, OutOfMemoryError, RayTaskError

from search.origin import is_theirs

_NODE = r"its node has died|node was terminated|node is dead|node failure"
_MEMORY = r"running low on memory|OutOfMemory|killed due to memory pressure"

# What Python, or Ray in its place, has a process say that dies of a signal: which one, and where each thread was.
_SIGNAL = re.compile(r"^Fatal Python error: (.+)$", re.M)
_STACK = re.compile(r"^(?:Current thread|Stack).*most recent call first\):\n((?:  File .+\n?)+)", re.M)
_CALL = re.compile(r"^  File \"(.+)\", line (\d+) in ", re.M)

# Of a process that a node could not have at all, for want of what it would import; no error_kind of a trial.
NOT_IMPORTED = "not_imported"
# Ray's words (2.60) where it could not make an actor, or what it is called with; then Python's.
_NOT_MADE = r"failed to import on the worker|input arguments for this task could not be computed"
_WHY_NOT = r"^((?:ModuleNotFound|Import|Attribute)Error: .+)$"


class Deaths:
    """Tells the kinds of death apart. Made when a search begins, since it watches the kernel's count."""

    def __init__(self) -> None:
        self._num_killed = _num_killed_for_memory()

    def cause(self, err: BaseException | None, printed: str | None = None) -> tuple[str, str]:
        """The error_kind and a sentence; or NOT_IMPORTED, and what could not be imported where.

        Args:
            err: What Ray raised, if that is known.
            printed: The end of what the process has printed, if that is known.
        """
        if lacks := not_imported(err):
            return NOT_IMPORTED, lacks
        text = str(err) if err else ""
        before, self._num_killed = self._num_killed, _num_killed_for_memory()
        if isinstance(err, OutOfMemoryError) or re.search(_MEMORY, text) or self._num_killed > before:
            return "oom", "the process that trained it was killed because the node ran out of memory"
        # A node that dies takes its raylet along, and Ray only knows that an actor there can't be reached; of a
        # process that died alone the raylet tells.
        if isinstance(err, NodeDiedError | ActorUnavailableError) or re.search(_NODE, text):
            return "node_lost", "the node that trained it died or can't be reached"
        if isinstance(err, RayTaskError) or "creation task" in text:
            return "worker_lost", f"the process could not begin it: {text.strip().splitlines()[-1]}"
        return "worker_lost", f"the process that trained it died{_last_words(printed or '')}"


def _last_words(printed: str) -> str:
    """The end of a sentence about a process that died, like `: Segmentation fault (mine.py, line 7)`."""
    signal = _SIGNAL.search(printed)
    if not signal:
        return ""
    stack = _STACK.search(printed, signal.end())
    calls = _CALL.findall(stack[1]) if stack else []
    # As of an exception: the innermost line that is neither ours nor a library's.
    where = [f" ({Path(file).name}, line {line})" for file, line in calls if is_theirs(file)]
    return f": {signal[1]}{where[0] if where else ''}"


def not_imported(err: BaseException | None) -> str | None:
    """What kept a process from importing this project, or a study's function, and where; None if nothing did.

    Both could be imported where the search was begun.
    """
    text = str(err) if err else ""
    said = re.findall(r"^search\.errors\.StudyError: (.+ must be importable as [^;\n]+)", text, re.M)
    if re.search(_NOT_MADE, text):
        said += re.findall(_WHY_NOT, text, re.M)
    node = re.search(r"\bip[:=] ?([^\s,)]+)", text)
    return f"{said[-1]} on {node[1] if node else 'a node'}" if said else None


def _num_killed_for_memory() -> int:
    """How many processes this machine's kernel has killed for their memory; 0 where it doesn't say."""
    try:
        words = Path("/proc/vmstat").read_text().split()
    except OSError:
        return 0
    return int(words[words.index("oom_kill") + 1]) if "oom_kill" in words else 0
