"""The words that stand in the log and in the tables for what became of a trial and of a search, and their meaning."""

STATES: dict[str, str] = {
    "running": "It is being trained, or its driver was killed as it was.",
    "finished": "It had its whole budget of epochs, or its function returned before. Only finished trials can win.",
    "stopped": "It was given up: by early stopping, or because the search had come to its end.",
    "failed": "It could not be trained; `error_kind` says why.",
    "interrupted": "The search was interrupted, or its time was up, while it ran; a resume goes on with it.",
}
STOP_REASONS: dict[str, str] = {
    "max_epochs": "finished: it had all of `early_stop.max_epochs`",
    "returned": "finished: its function returned before that",
    "early_stop": "stopped: others did better at the same rung",
    "repeat": "stopped: another trial has the same configuration, and its result was taken; see `repeat_of`",
    "infeasible": "stopped: its configuration alone breaks a constraint, and it was not trained",
    "nan": "stopped: it reported nan or infinity, and `failures.nan` is `prune`",
    "budget": "interrupted: `budget.wall` was used up; a resume with more of it goes on",
    "target": "stopped: another trial reached `objective.target`",
    "plateau": "stopped: the best had not moved for `budget.plateau`",
    "constraints": "stopped: hardly a configuration keeps the constraints, and the search ended",
    "failures": "stopped: ten trials in a row had failed, and none had done well",
    "error": "failed; or interrupted, because the search broke off",
    "user": "interrupted: Ctrl-C, SIGTERM, or a job that was told to stop",
}
ERROR_KINDS: dict[str, str] = {
    "nan": "a metric was nan or infinite",
    "missing_metric": "a report lacked a metric that `objective` or `constraints` name",
    "no_report": "the function returned without a report",
    "return_value": "the function returned something",
    "exception": "the function raised",
    "timeout": "it took longer than `budget.trial_wall`; its process was ended",
    "oom": "memory ran out, the node's or the GPU's",
    "worker_lost": "its process died, more often than `failures.retries` allows",
    "node_lost": "its node died or could not be reached, ten times",
}
END_REASONS: dict[str, str] = {
    "trials": "`budget.trials` have ended",
    "wall": "`budget.wall` is used up",
    "target": "a finished trial is as good as `objective.target`",
    "plateau": "the best (of several objectives: the Pareto set) has not moved for `budget.plateau`",
    "constraints": "ten times as many configurations as `budget.trials` have broken a constraint, and were not trained",
    "failures": "ten trials in a row have failed, and none has done well: the fault is in the study",
    "user": "Ctrl-C, SIGTERM, or a job that was told to stop; it can be resumed",
    "error": "the search broke off; once that is put right, it can be resumed",
}
