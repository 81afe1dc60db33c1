"""A script that is there already, as a workload: it is started as it would be typed, and what it prints is reported.

Parameters are options of the same name. What else it prints, and its errors, stand in the trial's log.
"""

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainables import Trial

SCRIPT = Path(__file__).with_name("fit.py")
LINE = re.compile(r"epoch \d+: loss (\S+)")


def train(config: Mapping[str, Any], trial: Trial) -> None:
    """Run the script once, and report each epoch as it is printed."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in config.items()]
    options += [f"--epochs={trial.max_epochs}", f"--seed={trial.seed}"]
    # -u: each line comes when it is printed.
    with subprocess.Popen([sys.executable, "-u", SCRIPT, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                print(line, end="")
                if found := LINE.match(line):
                    trial.report({"loss": float(found[1])})
        except BaseException:  # early stopping ends the function in `report`
            process.kill()
            raise
    if process.returncode:
        raise RuntimeError(f"{SCRIPT.name} must end with exit code 0, got {process.returncode}")
