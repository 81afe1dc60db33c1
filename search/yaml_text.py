"""YAML as study files use it: safe, without repeated keys, with 1e-4 as a number, and with line numbers."""

import re
from collections.abc import Hashable, Sequence
from typing import Any

import yaml

from search.errors import StudyError


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses a key said twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise StudyError(f"line {key.start_mark.line + 1}: a key must be one word, got a list or a mapping")
            if key.value in seen:
                raise StudyError(f"line {key.start_mark.line + 1}: the key {key.value!r} is there twice; drop one")
            seen.add(key.value)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that quotes what `_Loader` would take for a number."""


# PyYAML reads YAML 1.1, where 1e-4 is text because it has no dot.
for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
    )

# YAML takes these for ends of lines: unless they are escaped, they are read back as others.
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    style = '"' if _LINE_ENDS.search(text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def load(text: str) -> Any:
    """The plain value that a YAML text holds.

    Raises:
        StudyError: It is no YAML, has a tag that asks for more than plain values, or a repeated key.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as err:
        line = f"line {err.problem_mark.line + 1}: " if err.problem_mark else ""
        raise StudyError(f"{line}must be valid YAML; {err.problem}") from err
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as err:
        # ValueError: a date that is none, or a number's tag on a word.
        raise StudyError(f"must be valid YAML; {err}") from err


def dump(value: Any) -> str:
    """The value as YAML, in the order that it has."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110, default_flow_style=None)


def line(value: Any) -> str:
    """The value as YAML in one line, as it is typed after `--set key=`."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**31, default_flow_style=True)
    return text.removesuffix("\n").removesuffix("\n...")


def line_of(text: str, path: Sequence[str | int]) -> int | None:
    """The line, from 1, where the value at `path` is written; None where it is not."""
    node = yaml.compose(text, Loader=_Loader)
    line = None
    for key in path:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next(((k.start_mark.line, v) for k, v in node.value if k.value == str(key)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            found = (node.value[key].start_mark.line, node.value[key])
        if found is None:
            break
        line, node = found[0] + 1, found[1]
    return line
