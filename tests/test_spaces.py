"""Spaces: what may vary, and under which condition."""

import json
import random
from typing import Any

import pytest

from search import yaml_text
from spaces import DIGITS, Choice, Float, Int, Parameter, Space, SpaceError, Value


def draw(generator: random.Random) -> Any:
    def one(name: str, parameter: Parameter) -> Value:
        if isinstance(parameter, Choice):
            return generator.choice(parameter.options)
        if isinstance(parameter, Int):
            return generator.randrange(parameter.low, parameter.high + 1, parameter.step)
        return generator.uniform(parameter.low, parameter.high)

    return one


SPACE = Space(
    {
        "width": Int(8, 64, log=True, when={"model": ("cnn", "resnet")}),
        "model": Choice(("mlp", "cnn", "resnet")),
        "rate": Float(1e-4, 1e-1, log=True),
        "depth": Int(2, 8, step=2, when={"model": ("resnet",), "width": tuple(range(8, 65))}),
        "drop": Float(0.0, 0.5, step=0.1),
    }
)


@pytest.mark.parametrize("space", [SPACE, DIGITS])
def test_json_and_yaml_round_trip(space: Space) -> None:
    mapping = space.to_mapping()
    assert Space.from_mapping(json.loads(json.dumps(mapping))) == space
    assert Space.from_mapping(yaml_text.load(yaml_text.dump(mapping))) == space


def test_a_configuration_holds_just_what_applies() -> None:
    generator = random.Random(0)
    for _ in range(200):
        config = SPACE.walk(draw(generator))
        assert ("width" in config) == (config["model"] != "mlp")
        assert ("depth" in config) == (config["model"] == "resnet")
        SPACE.check(config)


def test_conditions_come_before_what_depends_on_them() -> None:
    order = list(SPACE)
    assert order.index("model") < order.index("width") < order.index("depth")


def test_digits_covers_architecture_and_optimizer_conditionally() -> None:
    generator = random.Random(1)
    configs = [DIGITS.walk(draw(generator)) for _ in range(300)]
    assert {(c["model"], c["optimizer"]) for c in configs} == {
        (model, optimizer) for model in ("mlp", "cnn", "resnet") for optimizer in ("sgd", "adamw", "muon")
    }
    assert all(("learning_rate_sgd" in c) == (c["optimizer"] == "sgd") for c in configs)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({}, "a space needs at least one parameter, got none"),
        ([1], "a space must be a mapping of names to parameters, got [1]"),
        ({"a": {"choice": []}}, "a: choice needs at least one option, got []; list the values to choose from"),
        ({"a": {"choice": ["x", "x"]}}, "a: choice options must differ, got ['x', 'x']; drop the repeated one"),
        ({"a": {"choice": [[1]]}}, "a: choice options must be text, numbers or true/false, got [1]"),
        ({"a": {"choice": "mlp"}}, "a: choice must be a list, got 'mlp'"),
        ({"a": {"float": [1, 0]}}, "a: float range needs low < high, got low=1, high=0; swap or widen them"),
        ({"a": {"int": [3, 3]}}, "a: int range needs low < high, got low=3, high=3; swap or widen them"),
        ({"a": {"float": [0, 1], "log": True}}, "a: a log range needs low > 0, got low=0; raise low or drop log"),
        ({"a": {"float": [0.1, 1], "log": "yes"}}, "a: log must be true or false, got 'yes'"),
        ({"a": {"int": [1, 10], "step": 0}}, "a: step must be a number > 0, got 0"),
        (
            {"a": {"int": [1, 10], "step": 2}},
            "a: int range must be a whole number of steps, got [1, 10] by 2; try high=9",
        ),
        (
            {"a": {"float": [0, 1], "step": 0.3}},
            "a: float range must be a whole number of steps, got [0, 1] by 0.3; try high=0.9",
        ),
        (
            {"a": {"int": [0, 1], "step": 2}},
            "a: int range must be a whole number of steps, got [0, 1] by 2; try a smaller step",
        ),
        (
            {"a": {"int": [1, 9], "step": 2, "log": True}},
            "a: a log range takes no step, got step=2; drop one of the two",
        ),
        ({"a": {"int": [0.5, 9]}}, "a: int low must be a whole number, got 0.5; use float"),
        ({"a": {"int": [1, 9], "step": None}}, "a: int step must be a whole number, got None; use float"),
        ({"a": {"float": ["0", 9]}}, "a: float range needs two finite numbers [low, high], got ['0', 9]"),
        ({"a": {"float": [0, float("inf")]}}, "a: float range needs two finite numbers [low, high], got [0, inf]"),
        ({"a": {"float": [0, 10**400]}}, f"a: float range needs two finite numbers [low, high], got [0, 1{'0' * 75}…"),
        (
            {"a": {"float": [-1e308, 1e308]}},
            "a: float range needs low and high that differ by a finite number, got [-1e+308, 1e+308]",
        ),
        (
            {"a": {"int": [0, 2**53 + 1]}},
            "a: int range needs whole numbers up to 2**53, got [0, 9007199254740993]; use float",
        ),
        ({"a": {"choice": [1, float("nan")]}}, "a: choice options must be finite numbers, got nan"),
        (
            {"a": {"choice": [2**60]}},
            "a: choice options must be whole numbers up to 2**53, got 1152921504606846976; write text",
        ),
        ({"a": {"choice": ["\ud800"]}}, "a: choice options must be text that UTF-8 can write, got '\\ud800'"),
        ({"a": {"float": [1]}}, "a: float needs [low, high], got [1]"),
        ({"a": {"flaot": [0, 1]}}, "a: needs exactly one of choice, int, float, got flaot"),
        ({"a": {"int": [0, 1], "float": [0, 1]}}, "a: needs exactly one of choice, int, float, got int, float"),
        ({"a": 3}, "a: must be a mapping like {float: [0.1, 1.0]}, got 3"),
        (
            {"a": {"float": [0, 1], "lg": True}},
            "a: unknown key 'lg'; known: float, log, step, when (did you mean 'log'?)",
        ),
        ({"a b": {"float": [0, 1]}}, "a parameter's name must be letters, digits and underscores, got 'a b'"),
        (
            {"model": {"choice": ["cnn"]}, "b": {"float": [0, 1], "when": {"modle": ["cnn"]}}},
            "b: `when` names an unknown parameter 'modle'; known: model, b (did you mean 'model'?)",
        ),
        (
            {"model": {"choice": ["cnn"]}, "b": {"float": [0, 1], "when": {"model": ["mlp"]}}},
            "b: `when` asks for model='mlp', which model can never be",
        ),
        (
            {"model": {"choice": ["cnn"]}, "b": {"float": [0, 1], "when": {"model": []}}},
            "b: `when` needs at least one value of model, got none",
        ),
        ({"a": {"float": [0, 1], "when": [1]}}, "a: `when` must be a mapping like {model: [cnn]}, got [1]"),
        (
            {"a": {"int": [0, 1], "when": {"b": [1]}}, "b": {"int": [0, 1], "when": {"a": [1]}}},
            "`when` must not go round in a circle, got a -> b -> a",
        ),
    ],
)
def test_what_is_no_space_is_refused(mapping: Any, message: str) -> None:
    with pytest.raises(SpaceError) as raised:
        Space.from_mapping(mapping)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modle": "cnn"}, "unknown parameter 'modle'; known: .* (did you mean 'model'?)"),
        ({"width": 100}, "width must be a whole number in [8, 64], got 100"),
        ({"model": "mpl"}, "model must be one of mlp, cnn, resnet, got 'mpl'"),
        ({"depth": 2}, "depth does not apply here, got 2; leave it out"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(change: dict[str, Value], message: str) -> None:
    config = {"model": "cnn", "width": 16, "rate": 0.01, "drop": 0.1, **change}
    with pytest.raises(SpaceError) as raised:
        SPACE.check(config)
    assert str(raised.value) == message.replace(".*", ", ".join(SPACE))


def test_true_is_not_one() -> None:
    assert Choice((True, False)).contains(True) and not Choice((True, False)).contains(1)
    assert not Int(0, 1).contains(True)
