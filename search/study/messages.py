"""What is said of a study that can't be: the key, its line, what must hold and what was got."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from search import yaml_text
from search.study.data import KINDS_OF_DATA
from search.study.early_stop import KINDS_OF_EARLY_STOP
from search.study.objective import KINDS_OF_OBJECTIVE
from search.study.sampler import KINDS_OF_SAMPLER
from search.study.section import unknown
from spaces.errors import shown

# A union names the kinds of its members in a location.
_VARIANTS = {**KINDS_OF_SAMPLER, **KINDS_OF_EARLY_STOP}
# What other tools call it, for who comes from there.
_ELSEWHERE = {
    "budget.trials": ("n_trials", "num_trials", "num_samples", "max_trials", "count"),
    "budget.wall": ("timeout", "time_budget_s", "max_wallclock_time"),
    "early_stop": ("pruner", "scheduler", "early_terminate"),
    "early_stop.max_epochs": ("epochs", "num_epochs", "max_t"),
    "objective.mode": ("direction", "directions", "modes"),
    "output": ("storage", "storage_path", "local_dir"),
    "resources.concurrent": ("slots", "n_jobs", "n_workers", "max_concurrent_trials", "parallel_trial_count"),
    "sampler": ("algorithm", "method", "search_alg", "searcher"),
    "space": ("config_space", "param_space", "parameters", "params", "search_space"),
    "workload": ("entrypoint", "function", "program", "script", "trainable"),
}
_LIKE = {
    "budget": "like {trials: 30}",
    "early_stop": "like {name: asha}, or {name: none}",
    "objective": "like {metric: val_accuracy, mode: max}",
    "sampler": "like {name: tpe}",
}
_SHORT = 60
_MEMBERS = ("int", "float", "literal['auto']", *KINDS_OF_DATA, *KINDS_OF_OBJECTIVE, *_VARIANTS)


def message(
    error: ErrorDetails, section: type[BaseModel], source: str, text: str | None, overrides: Sequence[str]
) -> str:
    """One line.

    Args:
        error: What pydantic found.
        section: What was to be made.
        source: Whose values they are.
        text: The YAML that they were read from, for the line's number.
        overrides: What of it came from the command line.
    """
    path = [key for key in error["loc"] if key not in _MEMBERS]  # only the keys are the user's
    at = error.get("ctx", {}).get("key", "").split(".")
    if at[: len(path)] == path:  # the complaint says more closely where it belongs
        path = [int(key) if key.isdigit() else key for key in at]
    key = typed(path)
    if any(f"{key}.".startswith(f"{override.partition('=')[0]}.") for override in overrides):
        return f"--set: {_complaint(error, section, path)}"
    line = yaml_text.line_of(text, path) if text else None
    where = f"{source}, line {line}" if line else source
    return f"{where}: {_complaint(error, section, path)}"


def typed(path: Sequence[str | int]) -> str:
    """A key as it is typed in --set; a name that can't be shown, like a line's end, in quotes."""
    return ".".join(name if name.isprintable() else repr(name) for name in map(str, path))


def _complaint(error: ErrorDetails, whole: type[BaseModel], path: list[str | int]) -> str:
    key, got, kind = typed(path), error["input"], error["type"]
    context = error.get("ctx", {})
    if kind == "extra_forbidden":
        known = list(_section_at(whole, error["loc"][:-1]).model_fields)
        section = error["loc"][-2] if len(error["loc"]) > 1 else ""
        where = section if section in _VARIANTS else typed(path[:-1])
        inside = f" in {where}" if where else ""
        return unknown("key", str(path[-1]), known, _elsewhere(path, whole)).replace(";", f"{inside};", 1)
    if kind in ("space", "workload", "early_stop", "together"):
        return _within_space(error["msg"]) if kind == "space" else error["msg"]
    must = {
        "int_type": "must be a whole number",
        "float_type": "must be a number",
        "string_type": "must be text",
        "bool_type": "must be true or false",
        "list_type": _must_be_a_list(got),
        "dict_type": "must be a mapping of names to values",
        "literal_error": f"must be {context.get('expected', '')}",
        "greater_than_equal": f"must be at least {context.get('ge')}",
        "less_than_equal": f"must be at most {context.get('le')}",
        "greater_than": f"must be greater than {context.get('gt', 0):g}",
        "less_than": f"must be below {context.get('lt')}",
        "model_type": f"must be a mapping {_LIKE.get(key, 'of keys to values')}",
        "too_short": "must hold at least one",
        "finite_number": "must be a finite number",
        "string_pattern_mismatch": "must be like package.module:name",  # as space_from and foresee are
    }.get(kind, error["msg"][:1].lower() + error["msg"][1:])
    return f"{key} {must}, got {shown(got)}"


def _must_be_a_list(got: Any) -> str:
    # Of one thing, a list of it was meant.
    like = f", like [{got}]" if isinstance(got, str) and len(got) < _SHORT else ", like [{…}]"
    return f"must be a list{like if isinstance(got, str | dict) else ''}"


def _elsewhere(path: Sequence[str | int], whole: type[BaseModel]) -> str:
    """The path of a key that another section has, or that is another tool's word; empty if there is none."""
    paths = dict(_keys(whole)) | {word: ours for ours, words in _ELSEWHERE.items() for word in words}
    meant = paths.get(str(path[-1]), "")
    return meant if meant != typed(path) else ""  # of another kind of the same section


def _keys(whole: type[BaseModel]) -> Iterator[tuple[str, str]]:
    """Each key of a study and of its sections, with its path; of two that are called the same, the outer one last."""
    for name, field in whole.model_fields.items():
        if name != "constraints":  # which holds names of metrics
            for section in _sections(field.annotation):
                yield from ((key, f"{name}.{key}") for key in section.model_fields)
    yield from ((name, name) for name in whole.model_fields)


def _within_space(message: str) -> str:
    """The complaint with where it belongs before it: `space.width: …`, or `space: …`."""
    if re.match(r"[A-Za-z_]\w*: ", message):
        return f"space.{message}"
    return message if "space" in message else f"space: {message}"


def _section_at(section: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel]:
    for key in location:
        if key in _VARIANTS:
            section = _VARIANTS[key]
        if str(key) not in section.model_fields:
            continue
        # A metric under `constraints` may be called like a key of its bounds, which is no section.
        section = next(_sections(section.model_fields[str(key)].annotation), section)
    return section


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The kinds of section that a key may hold."""
    for member in (annotation, *getattr(annotation, "__args__", ())):
        kind = getattr(member, "__origin__", member)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield kind
