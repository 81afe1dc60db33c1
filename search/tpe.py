"""TPE that draws again where it has drawn what is known."""

from collections.abc import Callable, Mapping
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial

# Where it draws known configurations so often in a row, it has come to its end: then one more repeat it is.
_MOST_DRAWS = 10


class FreshTPESampler(TPESampler):
    """Optuna's TPE, which on a space of few values suggests one configuration in ten again, and more towards the end.

    Args:
        is_known: Whether a configuration is not worth being suggested again; it is given all that was drawn, by name,
            also what does not apply.
        arguments: Of Optuna's TPESampler.
    """

    def __init__(self, is_known: Callable[[Mapping[str, Any]], bool], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._is_known = is_known

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """As the base class has it; what it draws at random, before it knows enough, is not looked at."""
        for _ in range(_MOST_DRAWS):
            drawn = super().sample_relative(study, trial, search_space)
            if not drawn or not self._is_known(drawn):
                break
        return drawn
