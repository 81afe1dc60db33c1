"""When a trial is given up: the rules and their options."""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from search.study.section import Section, complaint, name_of, unknown


class EarlyStop(Section):
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


# By their tags in the union below: pydantic says with these where a mistake lies.
KINDS_OF_EARLY_STOP: dict[str | int, type[BaseModel]] = {
    f"early_stop {section.model_fields['name'].default}": section for section in (Halving, Median, Pbt)
}
EARLY_STOPS = ("asha", "hyperband", "median", "none", "pbt")
_HALVING = "early_stop asha"


def _known_rule(value: object) -> object:
    if isinstance(value, dict) and str(value.get("name", "asha")) not in EARLY_STOPS:
        raise complaint("early_stop.name", unknown("early_stop", str(value["name"]), EARLY_STOPS))
    return value


EarlyStopField = Annotated[
    Annotated[Halving, Tag(_HALVING)]
    | Annotated[Median, Tag("early_stop median")]
    | Annotated[Pbt, Tag("early_stop pbt")],
    Discriminator(lambda value: tag if (tag := f"early_stop {name_of(value)}") in KINDS_OF_EARLY_STOP else _HALVING),
    BeforeValidator(_known_rule),
]
