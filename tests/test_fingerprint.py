"""Data that is loaded anew is told from what it was before, by its arrays."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from search import Study, resume, run
from search.errors import NotReproduced
from search.fingerprint import fingerprint
from search.rerun import rerun

NUMBERS = np.arange(600.0).reshape(300, 2)


class Holds:
    """An object of a user's own."""

    def __init__(self, held: Any) -> None:
        self.held = held


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "an array": lambda array: array,
    "one in Fortran's order": np.asfortranarray,
    "a part of one": lambda array: np.repeat(array, 2, axis=0)[::2],
    "a mapping": lambda array: {"a": [1, array], "b": "text"},
    "an object": lambda array: Holds(Holds(array)),
    "a table": lambda array: pd.DataFrame(array, columns=["a", "b"]),
    "text in a table": lambda array: pd.DataFrame({"a": pd.array([str(n) for n in array[:, 1]], dtype="string")}),
    "a tensor": torch.tensor,
    "tensors": lambda array: torch.utils.data.TensorDataset(torch.tensor(array), torch.tensor(array).bfloat16()),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_one_number_makes_it_other_data(holder: str) -> None:
    first, again = fingerprint(HOLDERS[holder](NUMBERS.copy())), fingerprint(HOLDERS[holder](NUMBERS.copy()))
    other = NUMBERS.copy()
    other[299, 1] += 1
    assert first is not None and again == first != fingerprint(HOLDERS[holder](other))


def test_the_same_numbers_in_another_shape_or_of_another_type_are_other_data() -> None:
    found = [
        fingerprint(one) for one in (NUMBERS, NUMBERS.reshape(2, 300), NUMBERS.astype(np.int64), torch.tensor(NUMBERS))
    ]
    assert len(set(found)) == 4 and None not in found


@pytest.mark.parametrize("data", [None, [1, "two"], {"a": {1, 2}}, (one for one in "ab"), np.array([{}], dtype=object)])
def test_what_has_no_arrays_or_cannot_be_sent_has_none(data: Any) -> None:
    assert fingerprint(data) is None


def test_another_process_finds_the_same() -> None:
    command = "import numpy as np; from search.fingerprint import fingerprint; print(fingerprint({'a': np.arange(9)}))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == fingerprint({"a": np.arange(9)})


LOADS = "import numpy\n\n\ndef load():\n    return numpy.loadtxt({!r})\n"


@pytest.mark.ray
def test_a_run_whose_data_has_changed_is_told_so(
    ray_cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    points = tmp_path / "points.csv"
    points.write_text("1 2 3")
    (tmp_path / "loads.py").write_text(LOADS.format(str(points)))
    for folder in (tmp_path, Path(__file__).parent):
        monkeypatch.syspath_prepend(str(folder))
    study = {
        "name": "mine",
        "workload": "workloads_for_tests:sums_its_data",
        "data": "loads:load",
        "objective": {"metric": "score"},
        "space": {"x": {"float": [0.0, 1.0]}},
        "early_stop": {"name": "none", "max_epochs": 1},
        "budget": {"trials": 2},
        "output": str(tmp_path),
    }
    done = run(Study.from_mapping(study), views=())
    resume(done.run_directory, "budget.trials=3", views=())
    warned = [str(one.message) for one in recwarn if "arrays" in str(one.message)]
    assert warned == []

    points.write_text("1 2 4")
    with pytest.warns(match="^data 'loads:load' gives other arrays than the trials of this run have trained on: "):
        resume(done.run_directory, "budget.trials=4", views=())
    rerun(done.run_directory, 3, lambda epoch: None).check()
    # Each trial with what it has trained on itself.
    with pytest.raises(NotReproduced, match=r"other than then: data [0-9a-f]{8} \(then [0-9a-f]{8}\)$"):
        rerun(done.run_directory, 0, lambda epoch: None).check()
