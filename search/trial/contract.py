"""What a training function is held to: how it is called, how it reports, and what its metrics may be."""

import inspect
from collections.abc import Mapping
from functools import wraps
from typing import Any

from search.trial.failures import Failed
from trainables import Report, Train, Trial


def called(train: Train, config: Mapping[str, Any], trial: Trial) -> None:
    """Call a training function.

    Raises:
        Failed: It returned something.
        Whatever it raises.
    """
    try:
        returned: object = train(config, trial)  # type: ignore[func-returns-value]  # users' functions may
    except SystemExit as err:
        if err.code:
            raise
        return  # so a script says that all went well
    if returned is not None:
        how = "return None and report its metrics, like trial.report({'loss': 0.2})"
        message = f"a training function must {how}, got {type(returned).__name__}"
        raise Failed({"kind": "return_value", "message": message})


def told_how(report: Report) -> Report:
    """`report`; called as other libraries' is, it says how it is to be called."""
    signature = inspect.signature(report)

    @wraps(report)
    def checked(*args: Any, **kwargs: Any) -> None:
        try:
            save = signature.bind(*args, **kwargs).arguments.get("save")
            is_so = save is None or callable(save)
        except TypeError:
            is_so = False
        if not is_so:
            got = [*(type(value).__name__ for value in args), *(f"{name}=…" for name in kwargs)]
            raise TypeError(
                "an epoch must be reported like trial.report({'loss': 0.2}), or with save=, a function that is given a "
                f"folder; epochs count themselves; got report({', '.join(got)})"
            )
        report(*args, **kwargs)

    return checked


def plain_numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The metrics as Python's own numbers, with names that can be written.

    Raises:
        TypeError: They have no names, or one is no number.
    """
    if not isinstance(metrics, Mapping):
        raise TypeError(f"metrics must be numbers by their names, like {{'loss': 0.2}}, got {type(metrics).__name__}")
    return {_clean(name): _number(name, value) for name, value in metrics.items()}


def _clean(name: object) -> str:
    return str(name).encode("utf-8", "replace").decode()


def _number(name: str, value: object) -> float:
    # NumPy's and PyTorch's scalars become Python's own; an int stays one.
    if hasattr(value, "item"):
        try:
            value = value.item()
        except (ValueError, RuntimeError) as err:  # of NumPy, of PyTorch
            got = f"{type(value).__name__} of shape {tuple(getattr(value, 'shape', ()))}"
            raise TypeError(f"the metric {name!r} must be a number, got {got}") from err
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"the metric {name!r} must be a number, got {value!r}")
    # Beyond 2**53 a whole number is not everybody's; as a real one it is at least as near as it can be.
    return value if isinstance(value, float) or abs(value) <= 2**53 else float(value)
