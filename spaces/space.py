"""A space: named parameters, some of which apply only when others have certain values."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from types import MappingProxyType
from typing import Any

from spaces.errors import SpaceError, did_you_mean, shown
from spaces.parameters import Choice, Float, Int, Parameter, Value

KINDS = ("choice", "int", "float")


@dataclass(frozen=True)
class Space:
    """What may vary, and under which condition.

    Args:
        parameters: By name. A parameter applies when every name in its `when` applies itself and has
            one of the values listed there.

    Raises:
        SpaceError: `when` names an unknown parameter or an impossible value, or goes round in a circle.
    """

    parameters: Mapping[str, Parameter]

    def __post_init__(self) -> None:
        if not self.parameters:
            raise SpaceError("a space needs at least one parameter, got none")
        for name, parameter in self.parameters.items():
            _check_name(name)
            for other, values in parameter.when.items():
                self._check_condition(name, other, values)
        try:
            order = tuple(TopologicalSorter({n: tuple(p.when) for n, p in self.parameters.items()}).static_order())
        except CycleError as err:
            raise SpaceError(f"`when` must not go round in a circle, got {' -> '.join(err.args[1])}") from err
        ordered = {name: self.parameters[name] for name in order}
        object.__setattr__(self, "parameters", MappingProxyType(ordered))

    def _check_condition(self, name: str, other: str, values: tuple[Value, ...]) -> None:
        if other not in self.parameters:
            raise SpaceError(
                f"{name}: `when` names an unknown parameter {other!r}; "
                f"known: {', '.join(self.parameters)}{did_you_mean(other, self.parameters)}"
            )
        if not values:
            raise SpaceError(f"{name}: `when` needs at least one value of {other}, got none")
        for value in values:
            if not self.parameters[other].contains(value):
                raise SpaceError(f"{name}: `when` asks for {other}={value!r}, which {other} can never be")

    def active(self, name: str, config: Mapping[str, Any]) -> bool:
        """Whether the parameter applies, given the values of those before it in order."""
        when = self.parameters[name].when
        return all(other in config and config[other] in values for other, values in when.items())

    def walk(self, draw: Callable[[str, Parameter], Value]) -> dict[str, Value]:
        """Make one configuration by asking `draw` for each parameter that applies, conditions first."""
        config: dict[str, Value] = {}
        for name, parameter in self.parameters.items():
            if self.active(name, config):
                config[name] = draw(name, parameter)
        return config

    def configurations(self) -> Iterator[dict[str, Value]]:
        """Every configuration there is, each once.

        Raises:
            SpaceError: A parameter has no end of values.
        """
        yield from self._completed({}, list(self.parameters))

    def _completed(self, config: dict[str, Value], left: list[str]) -> Iterator[dict[str, Value]]:
        if not left:
            yield config
            return
        name, *others = left
        for value in values(name, self.parameters[name]) if self.active(name, config) else [None]:
            yield from self._completed(config if value is None else {**config, name: value}, others)

    def check_part(self, config: Mapping[str, Any]) -> None:
        """Raise SpaceError unless `config` is part of a configuration, each value within its range.

        A parameter that applies only sometimes needs those beside it that say whether it does.
        """
        for name, value in config.items():
            if name not in self.parameters:
                near = did_you_mean(name, self.parameters)
                raise SpaceError(f"unknown parameter {name!r}; known: {', '.join(self.parameters)}{near}")
            if not self.active(name, config):
                when = " and ".join(f"{n} is {' or '.join(map(str, v))}" for n, v in self.parameters[name].when.items())
                raise SpaceError(f"{name} applies only when {when}; say so beside it, or leave it out")
            if not self.parameters[name].contains(value):
                raise SpaceError(f"{name} must be {_in_words(self.parameters[name])}, got {value!r}")

    def check(self, config: Mapping[str, Any]) -> None:
        """Raise SpaceError unless `config` has just the parameters that apply, each within its range."""
        for name in config:
            if name not in self.parameters:
                near = did_you_mean(name, self.parameters)
                raise SpaceError(f"unknown parameter {name!r}; known: {', '.join(self.parameters)}{near}")
        for name, parameter in self.parameters.items():
            applies = self.active(name, config)
            if applies and name not in config:
                raise SpaceError(f"{name} applies here and has no value")
            if not applies and name in config:
                raise SpaceError(f"{name} does not apply here, got {config[name]!r}; leave it out")
            if applies and not parameter.contains(config[name]):
                raise SpaceError(f"{name} must be {_in_words(parameter)}, got {config[name]!r}")

    def to_mapping(self) -> dict[str, dict[str, Any]]:
        """The space as plain dicts and lists, as a study file writes it; `from_mapping` reads it back."""
        return {name: _written(parameter) for name, parameter in self.parameters.items()}

    @classmethod
    def from_mapping(cls, mapping: object) -> "Space":
        """Read what a study file says.

        Raises:
            SpaceError: The message begins with the parameter's name.
        """
        if not isinstance(mapping, Mapping):
            raise SpaceError(f"a space must be a mapping of names to parameters, got {shown(mapping)}")
        for name in mapping:
            _check_name(str(name))
        return cls({str(name): _read(str(name), entry) for name, entry in mapping.items()})

    def __iter__(self) -> Iterator[str]:
        return iter(self.parameters)


def values(name: str, parameter: Parameter) -> Sequence[Value]:
    """All that a parameter can be, in order.

    Raises:
        SpaceError: A range of real numbers has no end of values without a step.
    """
    if isinstance(parameter, Choice):
        return parameter.options
    if isinstance(parameter, Int):
        return range(parameter.low, parameter.high + 1, parameter.step)
    if parameter.step is None:
        raise SpaceError(f"{name} has no end of values; give it a step")
    count = math.floor((parameter.high - parameter.low) / parameter.step + 1e-9) + 1
    return [parameter.low + number * parameter.step for number in range(count)]


def _check_name(name: str) -> None:
    # Names become columns (param_width) and command line words (--set width=32).
    if not name.isidentifier():
        raise SpaceError(f"a parameter's name must be letters, digits and underscores, got {name!r}")


def _in_words(parameter: Parameter) -> str:
    if isinstance(parameter, Choice):
        return f"one of {', '.join(map(str, parameter.options))}"
    kind = "a whole number" if isinstance(parameter, Int) else "a number"
    steps = "" if parameter.step in (None, 1) else f" in steps of {parameter.step}"
    return f"{kind} in [{parameter.low}, {parameter.high}]{steps}"


def _written(parameter: Parameter) -> dict[str, Any]:
    entry: dict[str, Any]
    if isinstance(parameter, Choice):
        entry = {"choice": list(parameter.options)}
    else:
        kind = "int" if isinstance(parameter, Int) else "float"
        entry = {kind: [parameter.low, parameter.high]}
        if parameter.log:
            entry["log"] = True
        if parameter.step not in (None, 1) or (kind == "float" and parameter.step is not None):
            entry["step"] = parameter.step
    if parameter.when:
        entry["when"] = {name: list(values) for name, values in parameter.when.items()}
    return entry


def _read(name: str, entry: object) -> Parameter:
    try:
        return _parameter(entry)
    except SpaceError as err:
        raise SpaceError(f"{name}: {err}") from err


def _parameter(entry: object) -> Parameter:
    if not isinstance(entry, Mapping):
        raise SpaceError(f"must be a mapping like {{float: [0.1, 1.0]}}, got {shown(entry)}")
    kinds = [kind for kind in KINDS if kind in entry]
    if len(kinds) != 1:
        raise SpaceError(f"needs exactly one of {', '.join(KINDS)}, got {', '.join(map(str, entry)) or 'nothing'}")
    (kind,) = kinds
    allowed = ("choice", "when") if kind == "choice" else (kind, "log", "step", "when")
    for key in entry:
        if key not in allowed:
            raise SpaceError(f"unknown key {key!r}; known: {', '.join(allowed)}{did_you_mean(str(key), allowed)}")
    when = _conditions(entry.get("when", {}))
    if kind == "choice":
        return Choice(tuple(_list(entry["choice"], "choice")), when)
    return _range(kind, entry, when)


def _range(kind: str, entry: Mapping[str, Any], when: Mapping[str, tuple[Value, ...]]) -> Int | Float:
    bounds = _list(entry[kind], kind)
    if len(bounds) != 2:
        raise SpaceError(f"{kind} needs [low, high], got {shown(bounds)}")
    log = entry.get("log", False)
    if kind == "int":
        return Int(bounds[0], bounds[1], log, entry.get("step", 1), when)
    return Float(bounds[0], bounds[1], log, entry.get("step"), when)


def _list(value: object, kind: str) -> list[Any]:
    if not isinstance(value, list | tuple):
        raise SpaceError(f"{kind} must be a list, got {shown(value)}")
    return list(value)


def _conditions(when: object) -> dict[str, tuple[Value, ...]]:
    if not isinstance(when, Mapping):
        raise SpaceError(f"`when` must be a mapping like {{model: [cnn]}}, got {shown(when)}")
    listed = {str(n): v if isinstance(v, list | tuple) else [v] for n, v in when.items()}
    return {name: tuple(values) for name, values in listed.items()}
