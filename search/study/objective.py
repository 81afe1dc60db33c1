"""What is searched for, and within what bounds."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, field_validator, model_validator
from pydantic_core import PydanticCustomError

from search.study.section import Section, complaint

# Whoever forgets `mode` for one of these would be given the worst of all, with no word about it.
_LESS_IS_BETTER = {
    "loss", "error", "err", "mse", "rmse", "mae", "mape", "nll", "bce", "perplexity", "ppl", "wer", "cer", "fid",
    "regret", "cost", "latency",
}  # fmt: skip


def is_line(name: str) -> bool:
    """Whether a metric's name can be shown in a table's head, or beside a chart's axis."""
    return name.isprintable() and bool(name.strip())


class Objective(Section):
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

    @field_validator("metric")
    @classmethod
    def _can_be_shown(cls, value: str) -> str:
        if not is_line(value):
            raise PydanticCustomError("name", "must be a name that can be shown on a line")
        return value

    @model_validator(mode="after")
    def _says_mode(self) -> "Objective":
        words = set(re.split(r"[^a-z0-9]+", self.metric.lower()))
        if "mode" not in self.model_fields_set and words & _LESS_IS_BETTER:
            is_better = "min if less of it is better, max if more is"
            raise complaint(
                "mode", f"objective.mode must be said of a metric that is called {self.metric}, got none: {is_better}"
            )
        return self


class Constraint(Section):
    """Bounds of metrics by their names, like `{num_parameters: {max: 20000}}`: a trial that breaks one can't win."""

    min: float | None = Field(None, description="What the metric must be at least.")
    max: float | None = Field(None, description="What the metric must be at most.")


KINDS_OF_OBJECTIVE = _ONE, _SEVERAL = "an objective", "several objectives"
ObjectiveField = Annotated[
    Annotated[Objective, Tag(_ONE)] | Annotated[list[Objective], Field(min_length=1), Tag(_SEVERAL)],
    Discriminator(lambda value: _SEVERAL if isinstance(value, list | tuple) else _ONE),
    AfterValidator(lambda value: value[0] if isinstance(value, list) and len(value) == 1 else value),
]
