"""Why a process died is told as far as it is known."""

import subprocess
import sys
from pathlib import Path

import pytest

from search.deaths import Deaths
from search.trial import trial_log

CRASHES = """import ctypes, faulthandler, threading, time
import numpy

threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("before")
faulthandler.enable()
ctypes.{how}
"""


def cause(scratch: Path) -> tuple[str, str]:
    return Deaths().cause(None, trial_log.tail(str(scratch), 3))


@pytest.mark.parametrize(("how", "said"), [("string_at(0)", "Segmentation fault"), ("pythonapi.abort()", "Aborted")])
def test_a_process_that_dies_of_a_signal_has_said_of_which_and_where(how: str, said: str, tmp_path: Path) -> None:
    script = tmp_path / "crashes.py"
    script.write_text(CRASHES.format(how=how))
    with trial_log.log_path(str(tmp_path), 3).open("wb") as printed:
        died = subprocess.run([sys.executable, script], stdout=printed, stderr=printed, check=False)
    assert died.returncode < 0
    kind, message = cause(tmp_path)
    assert kind == "worker_lost" and message == f"the process that trained it died: {said} (crashes.py, line 7)"
    assert "Extension modules" in trial_log.log_path(str(tmp_path), 3).read_text()
    assert "Extension modules" not in (trial_log.tail(str(tmp_path), 3) or "")


def test_of_one_that_said_nothing_no_more_is_told(tmp_path: Path) -> None:
    assert cause(tmp_path) == ("worker_lost", "the process that trained it died")
    trial_log.log_path(str(tmp_path), 3).write_text("Fatal error, said the function\n")
    assert cause(tmp_path) == ("worker_lost", "the process that trained it died")
