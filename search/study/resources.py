"""What each trial is given."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, field_validator, model_validator
from pydantic_core import PydanticCustomError

from search.study.section import Section, complaint, or_auto


def _ray_takes(amount: float) -> bool:
    """Ray counts in ten-thousandths, and above one in whole ones."""
    return 0.0001 <= amount <= 1 or (amount > 1 and amount == int(amount))


class Resources(Section):
    """What each trial is given."""

    cpu: int = Field(1, ge=1, description="CPU cores, which are also its threads; of each worker, as all of these.")
    gpu: float = Field(0, ge=0, description="GPUs; a fraction shares one, and so much of its memory.")
    custom: dict[str, PositiveFloat] = Field({}, description="Other resources that nodes were started with, by name.")
    workers: int = Field(1, ge=1, description="Workers that train one trial together, data-parallel, on any nodes.")
    concurrent: Annotated[int | Literal["auto"], or_auto(1)] = Field(
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
            raise complaint(
                "gpu", "gpu must be a whole number where a trial has several workers: nccl gives each its own"
            )
        return self

    @property
    def each(self) -> dict[str, float]:
        """What a worker of a trial asks of Ray, by Ray's names."""
        return {"CPU": self.cpu, **({"GPU": self.gpu} if self.gpu else {}), **self.custom}
