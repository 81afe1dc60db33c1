"""Where a study is read from: a file or a name, and what was typed besides."""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from search import references, yaml_text
from search.errors import StudyError
from search.study.study import Study
from spaces.errors import did_you_mean, shown

# Of a file's name; a study's is for folders, in shared storage too.
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def built_in_studies() -> list[str]:
    """The names of the studies that come along."""
    return sorted(path.name.removesuffix(".yaml") for path in files("search").joinpath("studies").iterdir())


def load_study(name_or_path: str, overrides: Sequence[str] | str = ()) -> Study:
    """Read a study file or a built-in study.

    Args:
        name_or_path: `quickstart`, say, or the path of a YAML file.
        overrides: `budget.trials=5` and the like, or one of them, applied before anything is checked.

    Raises:
        StudyError: It is not there, is no study, or an override names no key.
    """
    overrides = [overrides] if isinstance(overrides, str) else overrides
    source, text = _read(name_or_path)
    try:
        mapping = yaml_text.load(text)
    except StudyError as err:
        raise StudyError(f"{source}: {err}") from err
    mapping = {} if mapping is None else mapping
    if not isinstance(mapping, dict):
        raise StudyError(f"{source}: a study must be a mapping of keys to values, got {shown(mapping)}")
    stem = Path(name_or_path).name.removesuffix(".yaml").removesuffix(".yml")
    mapping.setdefault("name", _NOT_IN_NAMES.sub("-", stem).strip("-.") or "study")
    return Study.from_mapping(overridden(mapping, overrides), source=source, text=text, overrides=overrides)


def overridden(mapping: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The mapping with each `key.key=value` of `overrides` put in; values are YAML."""
    changed = dict(mapping)
    for override in overrides:
        path, sign, value = override.partition("=")
        if not sign or not all(path.split(".")):
            raise StudyError(f"--set needs key.key=value, got {override!r}; like --set budget.trials=5")
        *parents, last = path.split(".")
        section = changed
        for key in parents:
            inner = section.get(key)
            if isinstance(inner, list):
                raise StudyError(f"--set {path}: {key} is a list; set all of it, like --set '{key}=[…]'")
            if references.is_reference(inner):
                raise StudyError(f"--set {path}: {key} is {inner!r}; change it in its module, or set all of {key}")
            section[key] = dict(inner) if isinstance(inner, Mapping) else {}
            section = section[key]
        try:
            section[last] = yaml_text.load(value)
        except StudyError as err:
            raise StudyError(f"--set {path}: {err}") from err
    objective, before = changed.get("objective"), mapping.get("objective")
    if isinstance(objective, dict) and isinstance(before, Mapping) and objective.get("metric") != before.get("metric"):
        typed = {override.partition("=")[0] for override in overrides}
        if "objective" not in typed:  # what the file says is of another metric
            changed["objective"] = {
                key: value for key, value in objective.items() if key == "metric" or f"objective.{key}" in typed
            }
    return changed


def _read(name_or_path: str) -> tuple[str, str]:
    path = Path(name_or_path)
    if name_or_path in built_in_studies():
        built_in = files("search").joinpath("studies", f"{name_or_path}.yaml")
        return name_or_path, built_in.read_text(encoding="utf-8")
    if not path.is_file():
        known = ", ".join(built_in_studies())
        raise StudyError(
            f"unknown study {name_or_path!r}: no such file, and the built-in ones are {known}"
            f"{did_you_mean(name_or_path, built_in_studies())}"
        )
    try:
        return name_or_path, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise StudyError(f"{name_or_path}: a study must be a readable UTF-8 text file; {err}") from err
