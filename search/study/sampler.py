"""Who suggests the next configuration: the samplers and their options."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Discriminator, Field, Tag

from search.study.section import Section, complaint, name_of, or_auto, unknown
from search.suggest.samplers import SAMPLERS

# What a deterministic search knows when it suggests: all trials so far before. So many run at once at most; with more,
# suggestions would know less. Eight slots are a large machine, and two of them still learn from most of 24 trials.
LAG = 8


class Sampler(Section):
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
    neighbour_every: Annotated[int | Literal["auto"], or_auto(0)] = Field(
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


# By their tags in the union below: pydantic says with these where a mistake lies.
KINDS_OF_SAMPLER: dict[str | int, type[BaseModel]] = {
    f"sampler {section.model_fields['name'].default}": section
    for section in (Tpe, Gp, Cmaes, Random, Qmc, Grid, Nsga2, Nsga3)
}


def _known_sampler(value: object) -> object:
    if isinstance(value, dict) and str(value.get("name", "tpe")) not in SAMPLERS:
        raise complaint("sampler.name", unknown("sampler", str(value["name"]), SAMPLERS))
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
    Discriminator(lambda value: f"sampler {name_of(value) or 'tpe'}"),  # so a union names where a mistake is
    BeforeValidator(_known_sampler),
]
