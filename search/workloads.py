"""Where a study's workload comes from: its training function, its data, and what becomes of its best checkpoint."""

import inspect
import sys
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results.errors import RunWarning
from search.errors import StudyError, StudyFailed
from search.interrupts import Signalled
from search.origin import described
from search.references import is_of_program, look_up
from spaces import DIGITS_PARAMETERS
from trainables import Data, Train

if TYPE_CHECKING:
    from search.study import DataSection, Study


# What `foresee` is called with.
_FORESEEN = ("config", "data")


def check(study: "Study") -> None:
    """Raise StudyError unless the code that a study names is there. Does not import our own: PyTorch takes seconds."""
    if study.workload != "digits":
        find(study.workload)
    if isinstance(study.data, str):
        look_up("data", study.data)
    if study.foresee:
        _function("foresee", study.foresee, *_FORESEEN)


def find(workload: str) -> Train:
    """The training function that a study names.

    Raises:
        StudyError: It can't be imported, or is none.
    """
    reference = "trainables.digits:train" if workload == "digits" else workload
    return _function("workload", reference, "config", "trial")  # type: ignore[no-any-return]


def unimportable(workload: str) -> Train | None:
    """The function that a study names, if it is the running program's: it is sent along to the trials."""
    return find(workload) if is_of_program(workload) else None


def _function(key: str, reference: str, *arguments: str) -> Any:
    """What a study names, if it can be called with so many arguments, which are called so in messages."""
    function = look_up(key, reference, "function")
    if not callable(function):
        raise StudyError(f"{key} {reference!r} must be a function, got {function!r}")
    try:
        # As it is called: what a decorator hands on is its own affair.
        signature = inspect.signature(function, follow_wrapped=False)
    except (TypeError, ValueError):  # one of C need not tell
        return function
    must, name = f"{key} {reference!r} must take {' and '.join(arguments)}, in this order", reference.rpartition(":")[2]
    try:
        taken = list(signature.bind(*arguments).arguments)
    except TypeError as err:
        raise StudyError(f"{must}, got {name}{signature}") from err
    if taken == list(reversed(arguments)):
        raise StudyError(f"{must}, got {name}{signature}")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        is_async = inspect.iscoroutinefunction(function)
        got = "an async one; have it call asyncio.run" if is_async else "one with yield; what it calls may have that"
        raise StudyError(f"{key} {reference!r} must be a plain function, got {got}")
    return function


def whole_configuration(given: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of the workload `digits`: every parameter that applies, what is not given as it is by default."""
    from trainables.digits import DEFAULTS

    return DIGITS_PARAMETERS.walk(lambda name, _: given.get(name, DEFAULTS[name]))


def load_data(study: "Study", sha256: str | None = None) -> Any:
    """What a study's trials find in `trial.data`: what its own code loads, or `Data`, the test part not read, or None.

    Args:
        study: Whose they are.
        sha256: Of the images that its run began with.

    Raises:
        The same as `prepared`.
    """
    return prepared(study, sha256)()


def prepared(study: "Study", sha256: str | None = None, *, is_new: bool = False) -> Callable[[], Any]:
    """All of `load_data` that may take long, and all of it that is others' code; the rest is done by what is returned.

    Args:
        study: As for `load_data`.
        sha256: As for `load_data`.
        is_new: Whether a folder of pictures that has changed is prepared anew.

    Raises:
        DataError: A data set is missing or damaged, or the validation part can't be carved from it.
        StudyError: The study's own code can't be imported, or fails.
    """
    if study.data is None or isinstance(study.data, str):
        data = None if study.data is None else _loaded(study.data)
        return lambda: data
    prepare(study.data.dataset, Path(study.data.dir), is_new=is_new)
    return partial(load_images, study.data, sha256)


def prepare(dataset: str, folder: Path, *, is_new: bool) -> None:
    """Make a folder of pictures or idx files ready, which takes no network; warn of images that are there twice.

    Args:
        dataset: Another one is as `digitsearch data` has left it.
        folder: Where prepared data sets lie.
        is_new: Whether it is prepared anew if it has changed: a run that has begun goes on with what it began with.

    Raises:
        DataError: It can't be prepared.
    """
    from trainables import datasets

    if dataset in datasets.KNOWN or not Path(dataset).is_dir():
        return
    if is_new or not datasets.is_prepared(dataset, folder):
        datasets.prepare(dataset, folder)
        for what in datasets.describe(dataset, folder).doubts:
            warnings.warn(what, category=RunWarning, stacklevel=2)


def _loaded(reference: str) -> Any:
    data = _found(reference)
    inside = data.values() if isinstance(data, dict) else data if isinstance(data, list | tuple) else ()
    few = (data, *islice(inside, 100))
    if used_up := next((part for part in few if isinstance(part, Iterator)), None):
        kind = type(used_up).__name__
        raise StudyError(
            f"data {reference!r} must be the same for each trial, got a {kind}, which the first one would use up; "
            "give what it goes through, like a list"
        )
    return data


def _found(reference: str) -> Any:
    found = look_up("data", reference)
    if not callable(found):
        return found
    try:
        return found()
    except Signalled:
        raise
    except (Exception, SystemExit) as err:
        must = "must load when it is called without arguments"
        raise StudyError(f"data {reference!r} {must}, got {described(err)}") from err


def not_sent(study: "Study", data: Any, err: Exception) -> StudyError:
    """What is said of data that can't leave its process, and so can't reach a trial's."""
    must = "must give what can be sent to another process, like arrays, tables or plain values"
    return StudyError(f"data {study.data!r} {must}, got a {type(data).__name__}: {first_line(err)}")


def first_line(err: Exception) -> str:
    """What was wrong, of an error that says it at length."""
    return (str(err.__cause__ or err) or type(err).__name__).splitlines()[0]


def load_images(section: "DataSection", sha256: str | None = None) -> Data:
    """The training and validation images of a data set; the test part is not read.

    Args:
        section: Which ones.
        sha256: Of the images that the run began with; None for what is there now.

    Raises:
        DataError: They are missing or damaged, or the validation part can't be carved from them.
    """
    from trainables import datasets

    sha256 = sha256 or datasets.sha256(section.dataset, Path(section.dir))
    part = datasets.load_part(section.dataset, Path(section.dir), "train", sha256)
    training, validation = datasets.carve(part.labels, section.validation, section.split_seed)
    train_images = part.images[training]
    return Data(
        train_images=train_images,
        train_labels=part.labels[training],
        val_images=part.images[validation],
        val_labels=part.labels[validation],
        num_classes=int(part.labels.max()) + 1,
        mean=float(train_images.mean() / 255),
        std=float(train_images.std() / 255),
        sha256=sha256,
    )


def foresight(study: "Study", data: Any) -> Callable[[Mapping[str, Any]], Mapping[str, float]]:
    """A function that gives what a configuration says of the metrics that a study bounds, before it is trained.

    Args:
        study: Without constraints nothing is asked of it.
        data: As the trials have it.

    Raises:
        StudyError: What `foresee` names can't be imported, or is no function.
        StudyFailed: By the function: the study's own fails, or gives something else than numbers by their names.
    """
    bounded = set(study.constraints)
    if study.foresee and bounded:
        return partial(_foreseen, study.foresee, _function("foresee", study.foresee, *_FORESEEN), bounded, data)
    if study.workload == "digits" and isinstance(data, Data) and "num_parameters" in bounded:
        from trainables.digits import size

        return lambda config: {"num_parameters": size(config, data)}
    return lambda config: {}


def _foreseen(
    name: str, function: Callable[..., Any], bounded: Container[str], data: Any, config: Mapping[str, Any]
) -> Mapping[str, float]:
    from search.trial.contract import plain_numbers

    try:
        return {
            metric: value for metric, value in plain_numbers(function(dict(config), data)).items() if metric in bounded
        }
    except Signalled:
        raise
    except (Exception, SystemExit) as err:
        must = "must give numbers by the names of metrics, for any configuration"
        raise StudyFailed(f"foresee {name!r} {must}, got {described(err)} for {dict(config)}") from err


def to_preload(study: "Study") -> list[str]:
    """What takes seconds to import and each of a study's trials needs: `connected` can have it imported once for all.

    Of a workload of one's own, once it has been imported (`check`), that is PyTorch, if it has brought that along.
    Nothing where trials have a GPU: that has not been tried on one.
    """
    if study.resources.gpu:
        return []
    if study.workload == "digits":
        return ["search.workloads", "trainables.digits"]
    return ["search.workloads", "torch"] if "torch" in sys.modules else []


def warm_up(workload: str, data: Any, *, gpu: bool, num_threads: int, precision: str) -> None:
    """Do in a new process what its first trial would wait for. A workload of one's own is imported, no more."""
    if workload == "digits" and isinstance(data, Data):
        from trainables import digits

        digits.warm_up(data, "cuda" if gpu else "cpu", num_threads, precision)
