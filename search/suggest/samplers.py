"""What each sampler can do, whether a space asks for more, and how Optuna makes it."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import islice
from typing import TYPE_CHECKING, Any

from search.errors import StudyError
from spaces import Choice, Float, Parameter, Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

    from search.study import Sampler

# A grid is listed in memory, and nobody trains so many.
LARGEST_GRID = 100_000


@dataclass(frozen=True)
class Abilities:
    """What a sampler can do.

    Args:
        conditions: Whether it knows of parameters that apply only sometimes; else it draws them at random.
        choices: Whether it knows of values without order; else it draws them at random.
        endless: Whether a parameter may have more values than can be listed.
        learns: Whether what earlier runs found moves it.
        objectives: Whether it can search for several objectives.
        constraints: Whether constraints may be; one that does not learn has no use for them, and may have them.
        reports: Whether it learns from all that is reported; else from finished trials alone.
        remembers: Whether it keeps notes with its trials, which the log does not have: they are made again from it.
        packages: What it needs besides Optuna.
    """

    conditions: bool
    choices: bool = True
    endless: bool = True
    learns: bool = False
    objectives: bool = True
    constraints: bool = True
    reports: bool = False
    remembers: bool = False
    packages: tuple[str, ...] = ()


# As measured with Optuna 5.0; what is drawn at random there is refused here. A generation of NSGA can't take in a trial
# that none of its own has brought forth.
SAMPLERS: Mapping[str, Abilities] = {
    "tpe": Abilities(conditions=True, learns=True, reports=True),
    "gp": Abilities(conditions=False, learns=True, reports=True, packages=("torch", "scipy")),
    "cmaes": Abilities(
        conditions=False,
        choices=False,
        learns=True,
        objectives=False,
        constraints=False,
        remembers=True,
        packages=("cmaes",),
    ),
    "random": Abilities(conditions=True),
    "qmc": Abilities(conditions=False, remembers=True, packages=("scipy",)),
    "grid": Abilities(conditions=True, endless=False),
    "nsga2": Abilities(conditions=False, remembers=True),
    "nsga3": Abilities(conditions=False, remembers=True),
}


def refusal(settings: "Sampler", space: Space, *, several: bool = False, bounded: bool = False) -> str | None:
    """Why a sampler can't do what a study asks of it, and which can; None if it can.

    Args:
        settings: Which one.
        space: What it is to suggest from.
        several: Whether there are several objectives.
        bounded: Whether there are constraints.
    """
    asked = space, bool(settings.warm_start), several, bounded
    lacks = _lacks(settings.name, *asked)
    if lacks is None:
        return None
    able = [name for name in SAMPLERS if _lacks(name, *asked) is None]
    return f"sampler {settings.name!r} {lacks}; those that can do all that this study asks: {', '.join(able)}"


def _lacks(sampler: str, space: Space, warm_start: bool, several: bool, bounded: bool) -> str | None:
    can = SAMPLERS[sampler]
    if several and not can.objectives:
        return "can't search for several objectives, and objective is a list"
    if bounded and not can.constraints:
        return "can't take constraints into account, and the study has some"
    conditional = next((name for name, parameter in space.parameters.items() if parameter.when), None)
    if conditional and not can.conditions:
        return f"can't do conditions, and {conditional} has one (it would be drawn at random)"
    choice = next((name for name, parameter in space.parameters.items() if _is_choice(parameter)), None)
    if choice and not can.choices:
        return f"can't do choices, and {choice} is one (it would be drawn at random)"
    if warm_start and not can.learns:
        return "can't learn from earlier runs, and sampler.warm_start names some"
    if can.endless:
        return None
    endless = next((n for n, p in space.parameters.items() if isinstance(p, Float) and p.step is None), None)
    if endless:
        return f"tries all values, and {endless} has too many to list; give it a step"
    count = sum(1 for _ in islice(space.configurations(), LARGEST_GRID + 1))
    return None if count <= LARGEST_GRID else f"lists all configurations, at most {LARGEST_GRID:,}, and there are more"


def _is_choice(parameter: Parameter) -> bool:
    return isinstance(parameter, Choice) and len(parameter.options) > 1


def check_installed(settings: "Sampler") -> None:
    """Raise StudyError if a package is missing that the sampler needs."""
    missing = [name for name in SAMPLERS[settings.name].packages if find_spec(name) is None]
    if missing:
        able = [name for name, can in SAMPLERS.items() if all(find_spec(package) for package in can.packages)]
        raise StudyError(
            f"sampler {settings.name!r} needs the package {missing[0]}, which is not installed; "
            f"`pip install {' '.join(missing)}`, or choose one of {', '.join(able)}"
        )


def arguments(settings: "Sampler") -> dict[str, Any]:
    """The arguments of the sampler, seed aside: spelled out, since its defaults have changed between versions."""
    if settings.name == "tpe":
        # `group` models each set of parameters that apply together; without it those behind a condition would be
        # drawn at random.
        return {"multivariate": True, "group": True, "constant_liar": True, **settings.options}
    return settings.options


def made(
    settings: "Sampler",
    seed: int,
    study_seed: int,
    is_known: Callable[[Mapping[str, Any]], bool],
    applying: Callable[[dict[str, Any]], dict[str, Any]],
    reports: Mapping[int, Mapping[int, Sequence[float]]],
    sources: Sequence["FrozenTrial"] = (),
) -> "BaseSampler":
    """Optuna's sampler for one suggestion.

    Args:
        settings: Which one, and its options. A grid is listed by `Space.configurations`, and draws nothing.
        seed: Of the suggestion.
        study_seed: Of a sequence that goes on from suggestion to suggestion.
        is_known: Whether a configuration is not worth being suggested again, for TPE, which then draws another one.
        applying: Of all that a sampler has drawn, what applies, for TPE.
        reports: What trials have reported that the study does not tell of, see `search.suggest.seen`; for those that
            learn from it.
        sources: Trials of earlier runs, for CMA-ES (Nomura et al. 2021, "Warm Starting CMA-ES for Hyperparameter
            Optimization"), which does not look at others' trials by itself; the other samplers find them in the study.
    """
    from optuna import samplers
    from optuna.exceptions import ExperimentalWarning

    from search.suggest.gp_sampler import ReportedGPSampler
    from search.suggest.tpe import FreshTPESampler

    given = arguments(settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if settings.name == "cmaes":
            return samplers.CmaEsSampler(seed=seed, source_trials=list(sources) or None, **given)
        if settings.name == "qmc":
            return samplers.QMCSampler(seed=study_seed, **given)
        kinds: dict[str, Any] = {
            "tpe": partial(FreshTPESampler, is_known, applying, reports),
            "gp": partial(ReportedGPSampler, reports),
            "random": samplers.RandomSampler,
            "grid": samplers.RandomSampler,
            "nsga2": samplers.NSGAIISampler,
            "nsga3": samplers.NSGAIIISampler,
        }
        kind = kinds[settings.name]
        return kind(seed=seed, **given)  # type: ignore[no-any-return]
