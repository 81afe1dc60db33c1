"""A trial on a worker: the process that Ray Tune starts, gives one trial after another, and asks for reports."""

import faulthandler
from collections.abc import Mapping
from typing import Any

import ray
from ray import tune

from search import workloads
from search.session import Session, Terms
from trainables import Data

# A stopped function ends at its next report; one that does not within this time gets its process replaced.
_PATIENCE_S = 2.0


class TrialActor(tune.Trainable):  # type: ignore[misc]
    """Trains one trial at a time and is used again for the next."""

    def setup(self, config: dict[str, Any], *, terms: Terms, data: Data | None) -> None:
        """Get ready for any trial of the study, and begin the first."""
        self._terms, self._data = terms, data
        self._train = workloads.find(terms.workload)
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial. False if the last one can't be brought to an end: the process is replaced."""
        if not self._end():
            return False
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """The running trial's next report, as `Session.next` gives it, and the node that made it."""
        report = self._session.next()
        if report["done"]:
            faulthandler.cancel_dump_traceback_later()
        return {**report, "node": self._node}

    def cleanup(self) -> None:
        """Let go of the trial."""
        self._end()

    def _begin(self, assignment: Mapping[str, Any]) -> None:
        self._node = ray.util.get_node_ip_address()
        self._session = Session(self._train, self._terms, self._data, assignment)
        if self._terms.trial_wall_s:
            # Ends the process from outside Python, so that a loop that never reports, or never yields, ends too.
            faulthandler.dump_traceback_later(self._terms.trial_wall_s, exit=True, file=2)

    def _end(self) -> bool:
        faulthandler.cancel_dump_traceback_later()
        self._session.close()
        return self._session.join(_PATIENCE_S)
