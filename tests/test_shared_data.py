"""What is shared among trials is found in whatever holds it, and a change of it is seen."""

import threading
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from search.trial import shared_data
from search.trial.failures import DataWritten
from search.trial.shared_data import SharedData


def read_only(array: "np.ndarray") -> "np.ndarray":
    """As Ray hands out what lies in its object store."""
    array.flags.writeable = False
    return array


class Holds:
    def __init__(self, inside: Any) -> None:
        self.inside = inside


class CanNotBeSentOn(Holds):
    def __init__(self, inside: Any) -> None:
        super().__init__(inside)
        self.lock = threading.Lock()


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What Ray gives, the last of it: without Ray, so that a test can write to it as no other can."""
    given: list[Any] = []
    monkeypatch.setattr(shared_data.ray, "get", lambda reference: given[-1])
    return given


def shared(fetched: list[Any], data: Any) -> SharedData:
    fetched.append(data)
    found = SharedData(None)  # type: ignore[arg-type]
    found.load()
    found.check()
    return found


@pytest.mark.parametrize("how", ["in a mapping", "in an object", "in a table", "in Fortran's order", "large"])
def test_a_change_of_an_array_is_seen_wherever_it_is(how: str, fetched: list[Any]) -> None:
    memory = np.zeros((300, 2000 if how == "large" else 2), order="F" if how.startswith("in F") else "C")
    view = read_only(memory.view())
    held: dict[str, Any] = {"in a mapping": {"a": [view]}, "in an object": Holds(Holds(view))}
    if how == "in a table":
        held[how] = pd.DataFrame(view, copy=False)
    found = shared(fetched, held.get(how, view))
    memory += 1
    with pytest.raises(DataWritten):
        found.check()
    memory -= 1
    found.check()


def test_what_a_process_has_for_itself_may_be_written_to(fetched: list[Any]) -> None:
    data = {"tensor": torch.zeros(4), "array": np.zeros(4), "empty": read_only(np.zeros(0)), "list": [1]}
    found = shared(fetched, data)
    data["tensor"] += 1
    data["array"] += 1
    data["list"].append(2)
    found.check()


def test_what_cannot_be_looked_through_is_not_watched(fetched: list[Any]) -> None:
    memory = np.zeros(4)
    found = shared(fetched, CanNotBeSentOn(read_only(memory.view())))
    memory += 1
    found.check()


def test_a_trial_has_another_copy_than_the_one_before(fetched: list[Any]) -> None:
    found = shared(fetched, {"number": 1})
    first = found.for_trial()
    fetched.append({"number": 2})
    assert first == {"number": 1} and found.for_trial() == {"number": 2}
