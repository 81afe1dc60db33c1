"""One whole study: its sections, and what they ask of each other."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

import results
from results import Objectives, Place, RunError, place
from search import references, yaml_text
from search.errors import StudyError
from search.study.budget import Budget
from search.study.data import DataField, DataSection
from search.study.early_stop import EarlyStopField, Halving, Pbt
from search.study.messages import message, typed
from search.study.objective import Constraint, Objective, ObjectiveField, is_line
from search.study.resources import Resources
from search.study.sampler import SamplerField, Tpe
from search.study.section import Section, complaint, plain, unknown
from search.study.space import SpaceField, check_change, check_digits_space
from search.suggest.samplers import refusal
from spaces import NAMED, SpaceError
from spaces.errors import shown

# What may be a function itself, where a program makes a study.
_FUNCTIONS = ("workload", "data", "foresee")


class Failures(Section):
    """What a failed trial means."""

    retries: int = Field(2, ge=0, description="How often a trial whose process died is tried again.")
    nan: Literal["fail", "prune"] = Field("fail", description="What a trial is that reports nan or infinity.")


class Checkpoints(Section):
    """What is kept of the trials."""

    every_epochs: int = Field(1, ge=1, description="A checkpoint after every so many epochs, and the last.")
    keep_best: int = Field(3, ge=1, description="How many of the best trials keep theirs.")


class Confirm(Section):
    """The best few, trained again before one of them wins; `null` for the best of the search as it is."""

    top: int = Field(3, ge=1, le=100, description="So many of the best configurations.")
    seeds: int = Field(5, ge=2, le=100, description="So many new seeds for each; means need two.")


class Study(Section):
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
            message = unknown("workload", value, ["digits"]) + "; or package.module:function"
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
            raise complaint("data", f"data must name a data set for the workload digits, got {got}")
        if self.workload == "digits":
            check_digits_space(self.space)
        return self

    @model_validator(mode="after")
    def _constraints_can_be_kept(self) -> "Study":
        for name, bound in self.constraints.items():
            key, shown = f"constraints.{name}", typed(["constraints", name])
            if not is_line(name):
                raise complaint("constraints", f"constraints must have names that can be shown on a line, got {name!r}")
            if bound.min is None and bound.max is None:
                raise complaint(key, f"{shown} must have min or max, or both, like {{max: 20000}}")
            if bound.min is not None and bound.max is not None and bound.min > bound.max:
                raise complaint(key, f"{shown} must have min <= max, got {bound.min:g} > {bound.max:g}")
        return self

    @model_validator(mode="after")
    def _objectives_fit_together(self) -> "Study":
        if self.confirm and (self.wanted.are_several or self.early_stop.name == "pbt"):
            why = "there are several" if self.wanted.are_several else "pbt changes what a trial is trained with"
            raise complaint(
                "confirm", f"confirm needs one objective and trials that keep their configuration, but {why}"
            )
        if not self.wanted.are_several:
            if self.objectives[0].reference is not None:
                raise complaint(
                    "objective.reference", "objective.reference must be left out where there is one objective"
                )
            return self
        names = self.wanted.names
        for number, one in enumerate(self.objectives):
            if one.metric in names[:number]:
                raise complaint(
                    f"objective.{number}.metric", f"objective must name a metric once, got {one.metric!r} again"
                )
            if one.target is not None:
                must = "can't be where there are several objectives; bound the metrics by constraints"
                raise complaint(f"objective.{number}.target", f"objective.{number}.target {must}")
        if self.early_stop.name in ("median", "pbt"):
            can = "compares trials by one objective, and there are several; those that can: asha, hyperband, none"
            raise complaint("early_stop.name", f"early_stop {self.early_stop.name!r} {can}")
        if self.budget.plateau and self.budget.plateau.min_delta:
            must = "must be 0 where there are several objectives: any change of the Pareto set is progress"
            raise complaint("budget.plateau.min_delta", f"budget.plateau.min_delta {must}")
        return self

    @model_validator(mode="after")
    def _sampler_can_do_what_is_asked(self) -> "Study":
        for number, config in enumerate(self.sampler.known):
            try:
                self.space.check_part(config)
            except SpaceError as err:
                raise complaint(f"sampler.known.{number}", f"sampler.known.{number}: {err}") from err
        refused = refusal(self.sampler, self.space, several=self.wanted.are_several, bounded=bool(self.constraints))
        if refused:
            raise complaint("sampler.name", refused)
        return self

    @model_validator(mode="after")
    def _population_can_change(self) -> "Study":
        if not isinstance(self.early_stop, Pbt):
            return self
        if self.sampler.deterministic:
            must = "sampler.deterministic can't be with early_stop pbt, whose trials all train side by side"
            raise complaint("sampler.deterministic", must)
        check_change(self.early_stop.change, self.space, is_digits=self.workload == "digits")
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
            mapping: What a study file says, overrides and all. A program's own may hold values of NumPy, tuples and
                paths, and of `workload`, `data` and `foresee` functions themselves, of any kind.
            source: Whose values they are, for messages.
            text: The YAML that they were read from, for line numbers.
            overrides: What of it came from the command line, for messages.

        Raises:
            StudyError: A line for each thing that must be put right.
        """
        if not isinstance(mapping, dict):
            raise StudyError(f"{source}: a study must be a mapping of keys to values, got {shown(mapping)}")
        if text is None:  # what was read has plain values only; of YAML's lists one may hold itself
            mapping = {key: _given(key, value) for key, value in mapping.items()}
        try:
            return cls.model_validate(mapping)
        except ValidationError as err:
            raise StudyError("\n".join(message(error, cls, source, text, overrides) for error in err.errors())) from err


def _given(key: str, value: Any) -> Any:
    if key in _FUNCTIONS and callable(value):
        return references.of(value)
    # Data in memory is refused, and may be long.
    return value if key == "data" and not isinstance(value, Mapping) else plain(value)
