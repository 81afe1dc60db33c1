"""What a study names as package.module:name, in its user's own code."""

import importlib
import re
import shlex
import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from search.errors import StudyError
from search.interrupts import Signalled
from search.origin import described, origin, said
from spaces.errors import did_you_mean

MAIN = "__main__"  # the running program, or notebook
PATTERN = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"


def is_reference(value: object) -> bool:
    """Whether it is a text like package.module:name; there need be no such thing."""
    return isinstance(value, str) and re.fullmatch(PATTERN, value) is not None


# What the running program has handed over and no module has by a name: a closure, a bound method, a partial.
_handed_over: dict[str, Any] = {}


def of(function: Any) -> str:
    """How a study names a function that a program hands over.

    One that its module has by its name is called so, and found by every process. Of any other one the running program
    alone has it, by a name that no other one has there; `look_up` finds it as long as that program runs.
    """
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    reference = f"{module}:{name}"
    is_there = is_reference(reference) and getattr(sys.modules.get(str(module)), str(name), None) is function
    # A closure of the same name that was handed over before keeps it.
    if is_there and not (is_of_program(reference) and name in _handed_over):
        return reference
    name = _said_name(function)
    names = (name if number == 1 else f"{name}_{number}" for number in count(1))
    taken = vars(sys.modules[MAIN])
    free = next(name for name in names if name not in taken and _handed_over.setdefault(name, function) is function)
    return f"{MAIN}:{free}"


def _said_name(function: Any) -> str:
    """`inner` of a function within another one, `lambda`, `Model` of an instance that can be called."""
    function = getattr(function, "func", function)  # what a partial calls
    name = getattr(function, "__qualname__", None) or type(function).__name__
    return re.sub(r"[^A-Za-z0-9_]", "", name.rpartition(".")[2]).lstrip("0123456789") or "function"


def is_of_program(reference: str) -> bool:
    """Whether it names what the running program, or notebook, alone has: no other process can import it."""
    return reference.startswith(f"{MAIN}:")


def to_resume(run_directory: object, workload: str, changes: Mapping[str, str] | None = None) -> str:
    """What to type, or to call, so that a run of this workload goes on, with other values of some keys or without."""
    overrides = [f"{key}={value}" for key, value in (changes or {}).items()]
    if not is_of_program(workload):
        words = [word for override in overrides for word in ("--set", override)]
        return f"`{shlex.join(['digitsearch', 'resume', str(run_directory), *words])}`"
    given = f", {overrides}" if overrides else ""
    return f"`resume({str(run_directory)!r}{given})` in the program that began it"


def look_up(key: str, reference: str, what: str = "name") -> Any:
    """The thing that a study names; its module is imported.

    Args:
        key: Of the study, for messages: workload, data, space.
        reference: package.module:name.
        what: What is expected there, for messages.

    Raises:
        StudyError: It can't be imported, or its module fails as it is imported.
    """
    module_name, _, name = reference.partition(":")
    if module_name == MAIN and name in _handed_over:
        return _handed_over[name]
    # A study's own code lies where the command is typed, as for `python -m`.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except Signalled:
        raise
    except (Exception, SystemExit) as err:  # a module may raise anything as it is imported; a script ends its process
        why = _why(err)
        if isinstance(err, ModuleNotFoundError) and err.name == module_name.partition(".")[0]:
            why += "; it is looked for in the folder where this is typed, in PYTHONPATH, and among what is installed"
        raise StudyError(_not_importable(key, reference, what, why)) from err
    if not hasattr(module, name):
        why = f"a module {module_name!r} without {name!r}"
        if module_name == MAIN:
            why += ": what a program or a notebook defines is found from there alone; go on there, or name a module"
        else:
            why += did_you_mean(name, vars(module))
        raise StudyError(_not_importable(key, reference, what, why))
    return getattr(module, name)


def _not_importable(key: str, reference: str, what: str, why: str) -> str:
    return f"{key} {reference!r} must be importable as package.module:{what}, got {why}"


def _why(err: BaseException) -> str:
    if not isinstance(err, ImportError):
        return described(err)
    where = origin(err)  # of a module that imports what is not there; the module itself may be what is not there
    return said(err) + (f" ({where})" if where else "")
