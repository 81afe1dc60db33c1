"""Figures from the times at which trials began and ended, the same for all variants.

Each function takes a table with a row a report: `trial`, `began`, `ended` (seconds on one clock).
"""

import pandas as pd


def trial_s(reports: pd.DataFrame, num_warm_up: int) -> float:
    """Seconds from one trial's end to the next one's, over all slots, once `num_warm_up` trials have ended."""
    ended = reports["ended"].sort_values().to_numpy()
    if not 0 < num_warm_up < len(ended):
        raise ValueError(f"num_warm_up must lie between 0 and the number of trials, {len(ended)}, got {num_warm_up}")
    return float((ended[-1] - ended[num_warm_up - 1]) / (len(ended) - num_warm_up))


def busy_share(reports: pd.DataFrame, num_slots: int, num_warm_up: int) -> float:
    """The share of the slots' time in which they were at work, in [0, 1].

    It counts from the end of the `num_warm_up`-th trial to the beginning of the last: before, processes start; after,
    slots stand idle because nothing is left to do.

    Args:
        reports: One a trial.
        num_slots: How many there are.
        num_warm_up: So many trials end before it counts.
    """
    start = reports["ended"].nsmallest(num_warm_up).iloc[-1]
    end = reports["began"].max()
    if end <= start:
        raise ValueError(f"the last trial must begin after {num_warm_up} have ended; run more than {len(reports)}")
    worked = (reports["ended"].clip(upper=end) - reports["began"].clip(lower=start)).clip(lower=0).sum()
    return float(worked / (num_slots * (end - start)))


def reports_per_s(reports: pd.DataFrame) -> float:
    """Reports a second while all trials were reporting."""
    by_trial = reports.groupby("trial")["ended"]
    start, end = by_trial.min().max(), by_trial.max().min()
    if end <= start:
        raise ValueError("the trials must overlap in time, got one that ended before another began; report more often")
    return float(reports["ended"].between(start, end, inclusive="right").sum() / (end - start))
