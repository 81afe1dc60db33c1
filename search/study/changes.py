"""How one study differs from another, as `--set` has it, and what may differ in a run that goes on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from search import yaml_text
from search.errors import StudyError
from search.study.study import Study

_MAY = ("budget", "space", "confirm", "data.dir", "objective.target", "resources", "failures", "checkpoints")
MAY_CHANGE = f"{', '.join(_MAY[:-1])} or {_MAY[-1]}"
# Where a run lies is no matter of what is searched; and `space` has what this one names.
_ASIDE = ("name", "output", "space_from")


def check_may_change(overrides: Sequence[str]) -> None:
    """Raise StudyError if old and new trials could not be compared, or the run would be another one."""
    for override in overrides:
        key = override.partition("=")[0]
        # Of a key that there is not, the study says more.
        if key.split(".")[0] in Study.model_fields and not may_change(key):
            raise StudyError(
                f"--set: {key} must stay as it was in a run that has begun; change {MAY_CHANGE}, or run a study of "
                "another name"
            )


def may_change(key: str) -> bool:
    """Whether a run may go on with another value of a key, like `budget.trials`."""
    return any(key == name or key.startswith(f"{name}.") for name in _MAY)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, str]:
    """What must be set of one study, in plain values, to make it the other: values as YAML in a line, by their keys."""
    return {
        key: yaml_text.line(value)
        for key, value in _changes({**before}, {**after}, "")
        if key.partition(".")[0] not in _ASIDE
    }


def _changes(before: Mapping[str, Any], after: Mapping[str, Any], inside: str) -> Iterator[tuple[str, Any]]:
    for name, value in after.items():
        key, old = f"{inside}{name}", before.get(name)
        if name in before and old == value:
            continue
        # A key that is gone can't be set: then it is the whole that changes.
        if isinstance(old, Mapping) and isinstance(value, Mapping) and set(old) <= set(value):
            yield from _changes(old, value, f"{key}.")
        else:
            yield key, value
