"""The study file: what is searched, how, for how long and where. Values check themselves on the driver."""

import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    PositiveFloat,
    Tag,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

import results
from results import Objectives, Place, RunError, place
from search import references, yaml_text
from search.errors import StudyError
from search.suggest.samplers import SAMPLERS, refusal
from spaces import DIGITS_PARAMETERS, NAMED, Choice, Float, Int, Space, SpaceError
from spaces.errors import did_you_mean, shown

_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _seconds(value: object) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd])", value) if isinstance(value, str) else None
    seconds = float(match[1]) * _UNITS_S[match[2]] if match else 0.0
    if seconds < 0.001 or seconds > 1e9:
        raise PydanticCustomError("duration", "must be a duration like 90s, 30m or 2h")
    return seconds


def duration_text(seconds: float) -> str:
    """Seconds as a study file writes them, in the largest unit that leaves a whole number: 90s, 30m, 2h."""
    for unit in ("d", "h", "m"):
        if seconds >= _UNITS_S[unit] and seconds % _UNITS_S[unit] == 0:
            return f"{seconds / _UNITS_S[unit]:.0f}{unit}"
    return f"{seconds:.9f}".rstrip("0").rstrip(".") + "s"


def _or_auto(least: int) -> BeforeValidator:
    """The check of a number that may be left to us; one complaint, where a union has one for each of its members."""

    def checked(value: object) -> object:
        if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and value >= least):
            return value
        raise PydanticCustomError("auto", f"must be a whole number of at least {least}, or auto")

    return BeforeValidator(checked)


def _space(value: object) -> Space:
    if isinstance(value, Space):
        return value
    if references.is_reference(value):
        return _space_of_a_module(str(value))
    if isinstance(value, str):
        if value not in NAMED:
            message = _unknown("space", value, NAMED) + "; or package.module:name, or a mapping"
            raise PydanticCustomError("space", "{m}", {"m": message})
        return NAMED[value]
    try:
        return Space.from_mapping(value)
    except SpaceError as err:
        raise PydanticCustomError("space", "{m}", {"m": str(err)}) from err


def _space_of_a_module(reference: str) -> Space:
    try:
        found = references.look_up("space", reference)
        return found if isinstance(found, Space) else Space.from_mapping(found)
    except StudyError as err:
        raise PydanticCustomError("together", "{m}", {"m": str(err)}) from err
    except SpaceError as err:
        raise PydanticCustomError("together", "{m}", {"m": f"space {reference!r}: {err}"}) from err


def _check_digits_space(space: Space) -> None:
    """A space of the workload's own may have fewer parameters (the rest keep their defaults) and other ranges."""
    known = DIGITS_PARAMETERS.parameters
    for name, parameter in space.parameters.items():
        if name not in known:
            message = _unknown("parameter", name, known).replace(";", " of the workload digits;", 1)
            raise _at(f"space.{name}", f"space: {message}")
        theirs, options = known[name], getattr(parameter, "options", None)
        values = [parameter.low, parameter.high] if isinstance(parameter, Int | Float) else list(options or ())
        if isinstance(theirs, Choice):
            wrong = [value for value in values if not theirs.contains(value)]
            must = f"choose among {', '.join(map(str, theirs.options))}"
        else:
            least, most, whole = theirs.low, theirs.high, isinstance(theirs, Int)
            wrong = [v for v in values if not isinstance(v, int if whole else int | float) or isinstance(v, bool)]
            wrong = wrong or [value for value in values if not least <= value <= most]
            wrong = wrong or ["a range of real numbers"] * (whole and isinstance(parameter, Float))
            must = f"hold {'whole ' if whole else ''}numbers in [{least}, {most}]"
        if wrong:
            raise _at(f"space.{name}", f"space.{name} must {must}, got {wrong[0]!r}")


# What a net of the workload digits can go on with from a checkpoint that was trained with another value of it.
DIGITS_CAN_CHANGE = (
    "learning_rate_sgd", "learning_rate_adam", "weight_decay", "label_smoothing", "dropout", "rotation_deg", "shift",
    "scale", "elastic",
)  # fmt: skip


def _check_change(change: Sequence[str] | None, space: Space, *, is_digits: bool) -> None:
    """Raise unless a study says what may change during training, and it can."""
    key, decide = "early_stop.change", {name for parameter in space.parameters.values() for name in parameter.when}
    can = [name for name in space if name not in decide and (not is_digits or name in DIGITS_CAN_CHANGE)]
    if change is None and not is_digits:
        raise _at(key, f"{key} must name what may change during training, say [learning_rate]; here only you know")
    for name in change or ():
        if name not in can:
            raise _at(key, f"{key} must be among {', '.join(can) or 'nothing in this space'}, got {name!r}")
    if not can:
        raise _at(key, f"{key} must name something, and nothing in this space can change during training")


def _at(key: str, message: str) -> PydanticCustomError:
    """A complaint about one key, found where several had to be looked at together."""
    return PydanticCustomError("together", "{m}", {"m": message, "key": key})


Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    PlainSerializer(duration_text),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)?\s*[smhd]$", "examples": ["90s", "30m", "2h"]}),
]
SpaceField = Annotated[
    Space,
    BeforeValidator(_space),
    PlainSerializer(lambda space: space.to_mapping()),
    WithJsonSchema(
        {
            "anyOf": [
                {"enum": sorted(NAMED)},
                {"type": "string", "pattern": f"^{references.PATTERN}$", "examples": ["mine:SPACE"]},
                {"type": "object"},
            ]
        }
    ),
]


def _reference(value: str) -> str:
    if not references.is_reference(value):
        must = "must be a mapping like {dataset: mnist}, package.module:name or null"
        raise PydanticCustomError("together", "{m}", {"m": f"data {must}, got {value!r}"})
    return value


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )


class DataSection(_Section):
    """What is trained on."""

    dataset: str = Field("optdigits", description="A known data set, or the path of a folder of images.")
    dir: str = Field("data", description="Where prepared data sets lie.")
    validation: int | float = Field(0.15, description="Validation images: a number, or a share below 1.")
    split_seed: int = Field(0, ge=0, description="Decides which training images are for validation.")

    @field_validator("validation")
    @classmethod
    def _some_but_not_all(cls, value: int | float) -> int | float:
        if not (0 < value < 1 or (isinstance(value, int) and value >= 1)):
            raise PydanticCustomError("validation", "must be a number of images >= 1 or a share between 0 and 1")
        return value


# A union says its members' names where it says where a mistake is; no key of a study is called so.
_SECTION, _REFERENCE, _NONE = "a section", "a reference", "nothing"
DataField = Annotated[
    Annotated[DataSection, Tag(_SECTION)]
    | Annotated[
        str,
        AfterValidator(_reference),
        WithJsonSchema({"type": "string", "pattern": f"^{references.PATTERN}$", "examples": ["mine:load"]}),
        Tag(_REFERENCE),
    ]
    | Annotated[None, Tag(_NONE)],
    Discriminator(lambda value: _REFERENCE if isinstance(value, str) else _NONE if value is None else _SECTION),
]


# Whoever forgets `mode` for one of these would be given the worst of all, with no word about it.
_LESS_IS_BETTER = {
    "loss", "error", "err", "mse", "rmse", "mae", "mape", "nll", "bce", "perplexity", "ppl", "wer", "cer", "fid",
    "regret", "cost", "latency",
}  # fmt: skip


class Objective(_Section):
    """What is searched for; a list of such sections for the best trade-offs of several."""

    metric: str = Field("val_accuracy", description="A metric that the workload reports each epoch.")
    mode: Literal["max", "min"] = Field(
        "max", description="Whether more is better; must be said of a metric that is called loss, error or the like."
    )
    target: float | None = Field(
        None, description="The search ends once a finished trial is this good; for one objective alone."
    )
    reference: float | None = Field(
        None, description="Of several objectives: what the hypervolume is measured from; null: the worst that was seen."
    )

    @model_validator(mode="after")
    def _says_mode(self) -> "Objective":
        words = set(re.split(r"[^a-z0-9]+", self.metric.lower()))
        if "mode" not in self.model_fields_set and words & _LESS_IS_BETTER:
            is_better = "min if less of it is better, max if more is"
            raise _at(
                "mode", f"objective.mode must be said of a metric that is called {self.metric}, got none: {is_better}"
            )
        return self


class Constraint(_Section):
    """Bounds of metrics by their names, like `{num_parameters: {max: 20000}}`: a trial that breaks one can't win."""

    min: float | None = Field(None, description="What the metric must be at least.")
    max: float | None = Field(None, description="What the metric must be at most.")


_ONE, _SEVERAL = "an objective", "several objectives"
ObjectiveField = Annotated[
    Annotated[Objective, Tag(_ONE)] | Annotated[list[Objective], Field(min_length=1), Tag(_SEVERAL)],
    Discriminator(lambda value: _SEVERAL if isinstance(value, list | tuple) else _ONE),
    AfterValidator(lambda value: value[0] if isinstance(value, list) and len(value) == 1 else value),
]


# What a deterministic search knows when it suggests: all trials so far before. So many run at once at most; with more,
# suggestions would know less. Eight slots are a large machine, and two of them still learn from most of 24 trials.
LAG = 8


class Sampler(_Section):
    """Who suggests the next configuration: what all samplers have in common."""

    name: str
    seed: int = Field(0, ge=0, lt=2**31, description="The one seed; all others are derived from it.")
    known: list[dict[str, Any]] = Field(
        [], description="Configurations to begin with; what they leave out is suggested."
    )
    warm_start: list[str] = Field([], description="Earlier runs, whose finished trials the sampler learns from.")
    repeats: Literal["reuse", "reseed"] = Field(
        "reuse", description="A configuration suggested again: its result is taken, or it is trained with another seed."
    )
    deterministic: bool = Field(
        False, description="Whether suggestions depend on the seed alone, with any number of slots; at most 8 are used."
    )

    @property
    def options(self) -> dict[str, Any]:
        """What this sampler has besides, by the names of Optuna's arguments."""
        return {name: getattr(self, name) for name in type(self).model_fields if name not in Sampler.model_fields}


class Tpe(Sampler):
    """Tree-structured Parzen estimator (Bergstra et al. 2011; multivariate, Falkner et al. 2018)."""

    name: Literal["tpe"] = "tpe"
    n_startup_trials: int = Field(10, ge=0, description="So many are drawn at random first.")
    n_ei_candidates: int = Field(24, ge=1, description="Candidates among which the best is taken.")
    neighbour_every: Annotated[int | Literal["auto"], _or_auto(0)] = Field(
        "auto",
        description="Every so many suggestions, what is near the best competes; 0: never; auto: 2, and 1 if there are "
        "several objectives.",
    )


class Gp(Sampler):
    """Gaussian process with expected improvement; seconds a suggestion once there are hundreds of trials."""

    name: Literal["gp"] = "gp"
    n_startup_trials: int = Field(10, ge=1, description="So many are drawn at random first.")
    deterministic_objective: bool = Field(False, description="Whether the objective has no noise.")


class Cmaes(Sampler):
    """Covariance matrix adaptation (Hansen and Ostermeier 2001); for numbers only."""

    name: Literal["cmaes"] = "cmaes"
    n_startup_trials: int = Field(1, ge=0, description="So many are drawn at random first.")
    popsize: int | None = Field(None, ge=3, description="Trials of a generation; null: 4 + 3 ln(parameters).")
    with_margin: bool = Field(False, description="For whole numbers and steps (Hamano et al. 2022).")
    consider_pruned_trials: bool = Field(False, description="Whether stopped trials count, with their last value.")


class Random(Sampler):
    """At random."""

    name: Literal["random"] = "random"


class Qmc(Sampler):
    """A sequence that covers the space more evenly than chance (Bergstra and Bengio 2012)."""

    name: Literal["qmc"] = "qmc"
    qmc_type: Literal["sobol", "halton"] = Field("sobol", description="Which sequence.")
    scramble: bool = Field(False, description="Whether the seed moves it; else it is the same for all seeds.")


class Grid(Sampler):
    """Every configuration once, in an order that the seed says; the search ends with the last."""

    name: Literal["grid"] = "grid"


class _Genetic(Sampler):
    population_size: int = Field(50, ge=2, description="Trials of a generation; the first is drawn at random.")
    mutation_prob: float | None = Field(None, ge=0, le=1, description="Of each parameter; null: 1 / parameters.")
    crossover_prob: float = Field(0.9, ge=0, le=1, description="That a child has two parents.")
    swapping_prob: float = Field(0.5, ge=0, le=1, description="That a parameter comes from the second one.")


class Nsga2(_Genetic):
    """Genetic, non-dominated sorting (Deb et al. 2002)."""

    name: Literal["nsga2"] = "nsga2"


class Nsga3(_Genetic):
    """Genetic, non-dominated sorting with reference points (Deb and Jain 2014)."""

    name: Literal["nsga3"] = "nsga3"
    dividing_parameter: int = Field(3, ge=1, description="How finely reference points divide the objectives.")


def _name(value: Any) -> str | None:
    """Which of several kinds of section it is."""
    return value.get("name") if isinstance(value, dict) else getattr(value, "name", None)


def _known_sampler(value: object) -> object:
    if isinstance(value, dict) and str(value.get("name", "tpe")) not in SAMPLERS:
        raise _at("sampler.name", _unknown("sampler", str(value["name"]), SAMPLERS))
    return value


SamplerField = Annotated[
    Annotated[Tpe, Tag("sampler tpe")]
    | Annotated[Gp, Tag("sampler gp")]
    | Annotated[Cmaes, Tag("sampler cmaes")]
    | Annotated[Random, Tag("sampler random")]
    | Annotated[Qmc, Tag("sampler qmc")]
    | Annotated[Grid, Tag("sampler grid")]
    | Annotated[Nsga2, Tag("sampler nsga2")]
    | Annotated[Nsga3, Tag("sampler nsga3")],
    Discriminator(lambda value: f"sampler {_name(value) or 'tpe'}"),  # so a union names where a mistake is
    BeforeValidator(_known_sampler),
]


class EarlyStop(_Section):
    """When a trial is given up: what all rules have in common."""

    name: str
    grace_epochs: int = Field(1, ge=1, description="No trial is stopped before it; the first rung.")
    max_epochs: int = Field(8, ge=1, description="A trial's whole budget; schedules end there.")

    @model_validator(mode="after")
    def _grace_within_budget(self) -> "EarlyStop":
        if self.grace_epochs > self.max_epochs:
            raise PydanticCustomError(
                "early_stop",
                "early_stop.grace_epochs must be at most early_stop.max_epochs, got {grace} > {most}; change one",
                {"grace": self.grace_epochs, "most": self.max_epochs},
            )
        return self


class Halving(EarlyStop):
    """Asynchronous successive halving (Li et al. 2018), its brackets one after another (hyperband), or nothing."""

    name: Literal["asha", "hyperband", "none"] = "asha"
    reduction: int = Field(3, ge=2, description="One in so many trials goes on from each rung.")


class Median(EarlyStop):
    """The median stopping rule (Golovin et al. 2017)."""

    name: Literal["median"] = "median"
    min_trials: int = Field(5, ge=1, description="Trials that must have had the whole budget before one is stopped.")


class Pbt(EarlyStop):
    """Population based training (Jaderberg et al. 2017): the worst go on from the checkpoints of the best."""

    name: Literal["pbt"] = "pbt"
    every_epochs: int = Field(1, ge=1, description="Epochs of a generation; the first ends at grace_epochs.")
    quantile: float = Field(0.2, gt=0, le=0.5, description="This share, the worst, goes on from as many of the best.")
    resample: float = Field(0.25, ge=0, le=1, description="How often a value is drawn anew, and not moved by a fifth.")
    change: list[str] | None = Field(
        None, description="What may change during training; null: all that the workload digits lets change."
    )


def _known_rule(value: object) -> object:
    if isinstance(value, dict) and str(value.get("name", "asha")) not in EARLY_STOPS:
        raise _at("early_stop.name", _unknown("early_stop", str(value["name"]), EARLY_STOPS))
    return value


EARLY_STOPS = ("asha", "hyperband", "median", "none", "pbt")
_HALVING = "early_stop asha"
EarlyStopField = Annotated[
    Annotated[Halving, Tag(_HALVING)]
    | Annotated[Median, Tag("early_stop median")]
    | Annotated[Pbt, Tag("early_stop pbt")],
    Discriminator(lambda value: tag if (tag := f"early_stop {_name(value)}") in _VARIANTS else _HALVING),
    BeforeValidator(_known_rule),
]
_VARIANTS: dict[str | int, type[BaseModel]] = {
    f"{'sampler' if issubclass(section, Sampler) else 'early_stop'} {section.model_fields['name'].default}": section
    for section in (Tpe, Gp, Cmaes, Random, Qmc, Grid, Nsga2, Nsga3, Halving, Median, Pbt)
}


class Plateau(_Section):
    """When more of the same is no use."""

    trials: int = Field(20, ge=1, description="Give up after so many ended trials without progress.")
    min_delta: float = Field(0.0, ge=0, description="What counts as progress.")


class Budget(_Section):
    """When the search ends."""

    trials: int = Field(20, ge=1, description="How many configurations are tried.")
    wall: Duration | None = Field(None, description="How long the search may take, over all its sessions.")
    trial_wall: Duration | None = Field(None, description="How long one trial may take; then its process is ended.")
    plateau: Plateau | None = Field(None, description="End when the best has not moved for a while.")


def _ray_takes(amount: float) -> bool:
    """Ray counts in ten-thousandths, and above one in whole ones."""
    return 0.0001 <= amount <= 1 or (amount > 1 and amount == int(amount))


class Resources(_Section):
    """What each trial is given."""

    cpu: int = Field(1, ge=1, description="CPU cores, which are also its threads; of each worker, as all of these.")
    gpu: float = Field(0, ge=0, description="GPUs; a fraction shares one, and so much of its memory.")
    custom: dict[str, PositiveFloat] = Field({}, description="Other resources that nodes were started with, by name.")
    workers: int = Field(1, ge=1, description="Workers that train one trial together, data-parallel, on any nodes.")
    concurrent: Annotated[int | Literal["auto"], _or_auto(1)] = Field(
        "auto", description="Trials at once; auto: as many as fit."
    )

    @field_validator("gpu")
    @classmethod
    def _a_share_or_whole_ones(cls, value: float) -> float:
        if not _ray_takes(value) and value != 0:
            raise PydanticCustomError("gpu", "must be a fraction of one GPU, at least 0.0001, or a whole number")
        return value

    @field_validator("custom")
    @classmethod
    def _not_known_by_name(cls, value: dict[str, float]) -> dict[str, float]:
        for name in value:
            if name.lower() in ("cpu", "gpu", "memory", "object_store_memory") or not name:
                raise PydanticCustomError("custom", "must name resources other than cpu, gpu and memory")
            if not _ray_takes(value[name]):
                raise PydanticCustomError("custom", "must hold fractions of one, at least 0.0001, or whole numbers")
        return value

    @model_validator(mode="after")
    def _no_shares_for_several(self) -> "Resources":
        if self.workers > 1 and 0 < self.gpu < 1:
            raise _at("gpu", "gpu must be a whole number where a trial has several workers: nccl gives each its own")
        return self

    @property
    def each(self) -> dict[str, float]:
        """What a worker of a trial asks of Ray, by Ray's names."""
        return {"CPU": self.cpu, **({"GPU": self.gpu} if self.gpu else {}), **self.custom}


class Failures(_Section):
    """What a failed trial means."""

    retries: int = Field(2, ge=0, description="How often a trial whose process died is tried again.")
    nan: Literal["fail", "prune"] = Field("fail", description="What a trial is that reports nan or infinity.")


class Checkpoints(_Section):
    """What is kept of the trials."""

    every_epochs: int = Field(1, ge=1, description="A checkpoint after every so many epochs, and the last.")
    keep_best: int = Field(3, ge=1, description="How many of the best trials keep theirs.")


class Confirm(_Section):
    """The best few, trained again before one of them wins; `null` for the best of the search as it is."""

    top: int = Field(3, ge=1, le=100, description="So many of the best configurations.")
    seeds: int = Field(5, ge=2, le=100, description="So many new seeds for each; means need two.")


class Study(_Section):
    """One whole search. A frozen value; `study.yaml` in a run directory holds one with every default written out."""

    name: str = Field("study", description="Names the run directory.")
    workload: str = Field("digits", description="`digits`, or package.module:function.")
    data: DataField = Field(
        DataSection(),
        description="A data set; or package.module:name, what is trained on or a function that loads it; or null.",
    )
    objective: ObjectiveField = Field(
        Objective(), description="What is searched for; or a list of such mappings, for the best trade-offs of them."
    )
    constraints: dict[str, Constraint] = Field(
        {}, description="Bounds of metrics by their names: a trial that breaks one can't win."
    )
    foresee: str | None = Field(
        None,
        pattern=f"^{references.PATTERN}$",
        description="package.module:function of a configuration and the data: metrics that are known before training, "
        "so that a configuration that breaks a constraint is not trained; for `digits` num_parameters always is.",
    )
    space: SpaceField = Field(
        default_factory=lambda: NAMED["digits"],
        description="A named space; or package.module:name, one that a module holds; or a mapping.",
    )
    space_from: str | None = Field(
        None,
        pattern=f"^{references.PATTERN}$",
        description="The package.module:name that `space` was; a resume looks it up again. Written by the search.",
    )
    sampler: SamplerField = Tpe()
    early_stop: EarlyStopField = Halving()
    budget: Budget = Budget()
    resources: Resources = Resources()
    precision: Literal["auto", "bf16", "fp32"] = Field(
        "auto", description="What trials compute in; auto: bf16 where a probe of the machine finds it faster."
    )
    failures: Failures = Failures()
    checkpoints: Checkpoints = Checkpoints()
    confirm: Confirm | None = Field(
        None,
        description="The best few are trained again with new seeds, and the best mean wins: {top: 3, seeds: 5}.",
    )
    output: str = Field(
        "runs", description="Where run directories are made: a folder, or s3://bucket/prefix, gs://…, az://…."
    )

    @field_validator("name")
    @classmethod
    def _is_a_folder_name(cls, value: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
            raise PydanticCustomError("name", "must be letters, digits, dots, dashes and underscores, for a folder")
        return value

    @field_validator("output")
    @classmethod
    def _is_a_place(cls, value: str) -> str:
        try:
            place(value)
        except RunError as err:
            raise PydanticCustomError("together", "{m}", {"m": f"output: {err}"}) from err
        return value

    @field_validator("workload")
    @classmethod
    def _is_known_or_importable(cls, value: str) -> str:
        if value != "digits" and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", value):
            message = _unknown("workload", value, ["digits"]) + "; or package.module:function"
            raise PydanticCustomError("workload", "{m}", {"m": message})
        return value

    @model_validator(mode="before")
    @classmethod
    def _remembers_where_the_space_is(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        space = value.get("space", value.get("space_from"))
        return {**value, "space": space, "space_from": space} if references.is_reference(space) else value

    @model_validator(mode="after")
    def _digits_needs_data_and_its_space(self) -> "Study":
        if self.workload == "digits" and not isinstance(self.data, DataSection):
            got = "null" if self.data is None else repr(self.data)
            raise _at("data", f"data must name a data set for the workload digits, got {got}")
        if self.workload == "digits":
            _check_digits_space(self.space)
        return self

    @model_validator(mode="after")
    def _constraints_can_be_kept(self) -> "Study":
        for name, bound in self.constraints.items():
            key, shown = f"constraints.{name}", _typed(["constraints", name])
            if bound.min is None and bound.max is None:
                raise _at(key, f"{shown} must have min or max, or both, like {{max: 20000}}")
            if bound.min is not None and bound.max is not None and bound.min > bound.max:
                raise _at(key, f"{shown} must have min <= max, got {bound.min:g} > {bound.max:g}")
        return self

    @model_validator(mode="after")
    def _objectives_fit_together(self) -> "Study":
        if self.confirm and (self.wanted.are_several or self.early_stop.name == "pbt"):
            why = "there are several" if self.wanted.are_several else "pbt changes what a trial is trained with"
            raise _at("confirm", f"confirm needs one objective and trials that keep their configuration, but {why}")
        if not self.wanted.are_several:
            if self.objectives[0].reference is not None:
                raise _at("objective.reference", "objective.reference must be left out where there is one objective")
            return self
        names = self.wanted.names
        for number, one in enumerate(self.objectives):
            if one.metric in names[:number]:
                raise _at(f"objective.{number}.metric", f"objective must name a metric once, got {one.metric!r} again")
            if one.target is not None:
                must = "can't be where there are several objectives; bound the metrics by constraints"
                raise _at(f"objective.{number}.target", f"objective.{number}.target {must}")
        if self.early_stop.name in ("median", "pbt"):
            can = "compares trials by one objective, and there are several; those that can: asha, hyperband, none"
            raise _at("early_stop.name", f"early_stop {self.early_stop.name!r} {can}")
        if self.budget.plateau and self.budget.plateau.min_delta:
            must = "must be 0 where there are several objectives: any change of the Pareto set is progress"
            raise _at("budget.plateau.min_delta", f"budget.plateau.min_delta {must}")
        return self

    @model_validator(mode="after")
    def _sampler_can_do_what_is_asked(self) -> "Study":
        for number, config in enumerate(self.sampler.known):
            try:
                self.space.check_part(config)
            except SpaceError as err:
                raise _at(f"sampler.known.{number}", f"sampler.known.{number}: {err}") from err
        refused = refusal(self.sampler, self.space, several=self.wanted.are_several, bounded=bool(self.constraints))
        if refused:
            raise _at("sampler.name", refused)
        return self

    @model_validator(mode="after")
    def _population_can_change(self) -> "Study":
        if not isinstance(self.early_stop, Pbt):
            return self
        if self.sampler.deterministic:
            must = "sampler.deterministic can't be with early_stop pbt, whose trials all train side by side"
            raise _at("sampler.deterministic", must)
        _check_change(self.early_stop.change, self.space, is_digits=self.workload == "digits")
        return self

    @property
    def objectives(self) -> list[Objective]:
        """All of them, the first first."""
        return self.objective if isinstance(self.objective, list) else [self.objective]

    @property
    def wanted(self) -> Objectives:
        """The objectives and the constraints, as results have them."""
        each = tuple(results.Objective(one.metric, one.mode, one.reference) for one in self.objectives)
        bounds = (results.Constraint(name, bound.min, bound.max) for name, bound in self.constraints.items())
        return Objectives(each, tuple(bounds))

    @property
    def run_directory(self) -> Place:
        """Where the run of this study lies."""
        return place(self.output) / self.name

    def to_mapping(self) -> dict[str, Any]:
        """The study as plain values, every default written out; `from_mapping` reads it back."""
        return self.model_dump(mode="json")

    def to_yaml(self) -> str:
        """The study as a study file, every default written out."""
        return yaml_text.dump(self.to_mapping())

    @classmethod
    def from_mapping(
        cls, mapping: object, *, source: str = "study", text: str | None = None, overrides: Sequence[str] = ()
    ) -> "Study":
        """Check plain values.

        Args:
            mapping: What a study file says, overrides and all; `workload` and `data` may be functions themselves.
            source: Whose values they are, for messages.
            text: The YAML that they were read from, for line numbers.
            overrides: What of it came from the command line, for messages.

        Raises:
            StudyError: A line for each thing that must be put right.
        """
        if not isinstance(mapping, dict):
            raise StudyError(f"{source}: a study must be a mapping of keys to values, got {shown(mapping)}")
        named = {key: references.of(mapping[key]) for key in ("workload", "data") if callable(mapping.get(key))}
        try:
            return cls.model_validate({**mapping, **named})
        except ValidationError as err:
            raise StudyError("\n".join(_message(error, source, text, overrides) for error in err.errors())) from err


def built_in_studies() -> list[str]:
    """The names of the studies that come along."""
    return sorted(path.name.removesuffix(".yaml") for path in files("search").joinpath("studies").iterdir())


def load_study(name_or_path: str, overrides: Sequence[str] = ()) -> Study:
    """Read a study file or a built-in study.

    Args:
        name_or_path: `quickstart`, say, or the path of a YAML file.
        overrides: `budget.trials=5` and the like, applied before anything is checked.

    Raises:
        StudyError: It is not there, is no study, or an override names no key.
    """
    source, text = _read(name_or_path)
    try:
        mapping = yaml_text.load(text)
    except StudyError as err:
        raise StudyError(f"{source}: {err}") from err
    mapping = {} if mapping is None else mapping
    if not isinstance(mapping, dict):
        raise StudyError(f"{source}: a study must be a mapping of keys to values, got {shown(mapping)}")
    mapping.setdefault("name", Path(name_or_path).name.removesuffix(".yaml").removesuffix(".yml"))
    return Study.from_mapping(overridden(mapping, overrides), source=source, text=text, overrides=overrides)


def overridden(mapping: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The mapping with each `key.key=value` of `overrides` put in; values are YAML."""
    changed = dict(mapping)
    for override in overrides:
        path, sign, value = override.partition("=")
        if not sign or not all(path.split(".")):
            raise StudyError(f"--set needs key.key=value, got {override!r}; like --set budget.trials=5")
        *parents, last = path.split(".")
        section = changed
        for key in parents:
            inner = section.get(key)
            if isinstance(inner, list):
                raise StudyError(f"--set {path}: {key} is a list; set all of it, like --set '{key}=[…]'")
            if references.is_reference(inner):
                raise StudyError(f"--set {path}: {key} is {inner!r}; change it in its module, or set all of {key}")
            section[key] = dict(inner) if isinstance(inner, Mapping) else {}
            section = section[key]
        try:
            section[last] = yaml_text.load(value)
        except StudyError as err:
            raise StudyError(f"--set {path}: {err}") from err
    objective, before = changed.get("objective"), mapping.get("objective")
    if isinstance(objective, dict) and isinstance(before, Mapping) and objective.get("metric") != before.get("metric"):
        typed = {override.partition("=")[0] for override in overrides}
        if "objective" not in typed:  # what the file says is of another metric
            changed["objective"] = {
                key: value for key, value in objective.items() if key == "metric" or f"objective.{key}" in typed
            }
    return changed


def _read(name_or_path: str) -> tuple[str, str]:
    path = Path(name_or_path)
    if name_or_path in built_in_studies():
        built_in = files("search").joinpath("studies", f"{name_or_path}.yaml")
        return name_or_path, built_in.read_text(encoding="utf-8")
    if not path.is_file():
        known = ", ".join(built_in_studies())
        raise StudyError(
            f"unknown study {name_or_path!r}: no such file, and the built-in ones are {known}"
            f"{did_you_mean(name_or_path, built_in_studies())}"
        )
    try:
        return name_or_path, path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as err:
        raise StudyError(f"{name_or_path}: a study must be a readable UTF-8 text file; {err}") from err


def _unknown(what: str, got: str, known: Sequence[str] | Mapping[str, object]) -> str:
    return f"unknown {what} {got!r}; known: {', '.join(known)}{did_you_mean(got, known)}"


def _message(error: ErrorDetails, source: str, text: str | None, overrides: Sequence[str]) -> str:
    # A union names its member types in the location; only the keys are the user's.
    members = ("int", "float", "literal['auto']", _SECTION, _REFERENCE, _NONE, _ONE, _SEVERAL, *_VARIANTS)
    path = [key for key in error["loc"] if key not in members]
    at = error.get("ctx", {}).get("key", "").split(".")
    if at[: len(path)] == path:  # the complaint says more closely where it belongs
        path = [int(key) if key.isdigit() else key for key in at]
    key = _typed(path)
    if any(f"{key}.".startswith(f"{override.partition('=')[0]}.") for override in overrides):
        return f"--set: {_complaint(error, path)}"
    line = yaml_text.line_of(text, path) if text else None
    where = f"{source}, line {line}" if line else source
    return f"{where}: {_complaint(error, path)}"


def _typed(path: Sequence[str | int]) -> str:
    """A key as it is typed in --set; a name that can't be shown, like a line's end, in quotes."""
    return ".".join(name if name.isprintable() else repr(name) for name in map(str, path))


def _complaint(error: ErrorDetails, path: list[str | int]) -> str:
    key, got, kind = _typed(path), error["input"], error["type"]
    context = error.get("ctx", {})
    if kind == "extra_forbidden":
        known = list(_section_at(error["loc"][:-1]).model_fields)
        section = error["loc"][-2] if len(error["loc"]) > 1 else ""
        where = section if section in _VARIANTS else _typed(path[:-1])
        inside = f" in {where}" if where else ""
        return _unknown("key", str(path[-1]), known).replace(";", f"{inside};", 1)
    if kind in ("space", "workload", "early_stop", "together"):
        return _within_space(error["msg"]) if kind == "space" else error["msg"]
    must = {
        "int_type": "must be a whole number",
        "float_type": "must be a number",
        "string_type": "must be text",
        "bool_type": "must be true or false",
        "list_type": "must be a list",
        "dict_type": "must be a mapping of names to values",
        "literal_error": f"must be {context.get('expected', '')}",
        "greater_than_equal": f"must be at least {context.get('ge')}",
        "less_than_equal": f"must be at most {context.get('le')}",
        "greater_than": f"must be greater than {context.get('gt', 0):g}",
        "less_than": f"must be below {context.get('lt')}",
        "model_type": "must be a mapping of keys to values",
        "too_short": "must hold at least one",
        "finite_number": "must be a finite number",
        "string_pattern_mismatch": "must be like package.module:name",  # as space_from and foresee are
    }.get(kind, error["msg"][:1].lower() + error["msg"][1:])
    return f"{key} {must}, got {shown(got)}"


def _within_space(message: str) -> str:
    """The complaint with where it belongs before it: `space.width: …`, or `space: …`."""
    if re.match(r"[A-Za-z_]\w*: ", message):
        return f"space.{message}"
    return message if "space" in message else f"space: {message}"


def _section_at(location: Sequence[str | int]) -> type[BaseModel]:
    section: type[BaseModel] = Study
    for key in location:
        if key in _VARIANTS:
            section = _VARIANTS[key]
        if str(key) not in section.model_fields:
            continue
        annotation = section.model_fields[str(key)].annotation
        members = [annotation, *getattr(annotation, "__args__", ())]
        options = [getattr(member, "__origin__", member) for member in members]
        # A metric under `constraints` may be called like a key of its bounds, which is no section.
        section = next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), section)
    return section
