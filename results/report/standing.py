"""How trials compare that were given different numbers of epochs."""

import numpy as np
import pandas as pd
from markupsafe import Markup

from results.report.blocks import Text
from results.report.material import Material

# How the page says what `standing` does.
EXPLAINED = (
    "Trials are compared by how far early stopping let them come, and those that came equally far by their {metric} "
    "there: the finished ones come first. Trials that failed, or that the end of the search cut short, are left out."
)


def first_alone(material: Material) -> list[Text]:
    """What a section must say that looks at one objective of several."""
    if not material.are_several:
        return []
    said = "There are several objectives, and early stopping compared trials by all of them; below it is {} alone."
    return [Text(Markup(said).format(material.metric))]


def standing(material: Material) -> pd.Series:
    """Each comparable trial's place among all, from above 0 (the worst) to 1 (the best), by the trial's number.

    A value after two epochs and one after eighteen can't be compared, and the finished trials alone are few. So trials
    are ordered by the rung at which they ended, then by their value there, as Optuna's TPE orders pruned trials.
    """
    finished, given_up = material.candidates, material.given_up
    stopped = given_up[~given_up["number"].isin(material.aside)]
    ends = pd.to_numeric(stopped[f"last_{material.metric}"], errors="coerce").replace([np.inf, -np.inf], np.nan)
    rows = pd.concat([
        pd.DataFrame({"number": finished["number"], "reached": np.inf, "value": finished["value"]}),
        pd.DataFrame({"number": stopped["number"], "reached": stopped["epochs"].astype(float), "value": ends}),
    ]).dropna()  # fmt: skip
    sign = 1.0 if material.mode == "max" else -1.0
    within = (sign * rows["value"]).groupby(rows["reached"]).rank()
    places = (rows["reached"].rank(method="min") - 1 + within) / len(rows)
    return pd.Series(places.to_numpy(), index=rows["number"].to_numpy(), dtype=float)
