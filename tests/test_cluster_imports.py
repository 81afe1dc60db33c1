"""Importing while something else starts."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster.imports import as_if_missing, import_meanwhile


def test_what_is_imported_meanwhile_leaves_the_cores_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, threading\nnice = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())\n"
    (tmp_path / "imported_meanwhile.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    usual = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    with ThreadPoolExecutor(1) as beside:
        beside.submit(import_meanwhile, ["imported_meanwhile"]).result()
    nice = sys.modules["imported_meanwhile"].nice
    assert nice > usual if sys.platform == "linux" else nice == usual
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == usual


@pytest.mark.parametrize("module", ["this", "json"])
def test_a_module_is_missing_for_a_while_and_then_as_before(module: str) -> None:
    before = sys.modules.get(module)
    with as_if_missing(module), pytest.raises(ImportError):
        __import__(module)
    assert sys.modules.get(module) is before
