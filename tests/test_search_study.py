"""The study file: defaults, overrides, and what must hold."""

import json
from pathlib import Path

import pytest

from search import Study, StudyError, load_study, yaml_text
from search.schema import schema_text
from search.study import DataSection, built_in_studies, changes, duration_text, messages
from spaces import DIGITS, DIGITS_PARAMETERS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", built_in_studies())
def test_a_built_in_study_round_trips_with_every_default_written_out(name: str) -> None:
    study = load_study(name)
    assert study.name == name
    written = yaml_text.load(study.to_yaml())
    assert Study.from_mapping(written) == study
    assert set(written) == set(Study.model_fields)


def test_an_empty_study_is_all_defaults(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("# nothing\n")
    study = load_study(str(path))
    assert study.name == "mine" and study.space == DIGITS and study.data is not None
    assert study.data.dataset == "optdigits"


def test_the_template_of_init_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text((ROOT / "search" / "template.yaml").read_text())
    assert load_study(str(path)).budget.wall == 120.0


def test_the_published_schema_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "study.schema.json").read_text() == schema_text(), "run `make schema`"
    assert json.loads(schema_text())["additionalProperties"] is False


def test_overrides_are_yaml_and_reach_any_depth() -> None:
    study = load_study("quickstart", ["budget.trials=3", "sampler={name: random, seed: 5}", "budget.plateau.trials=9"])
    assert (study.budget.trials, study.sampler.name, study.sampler.seed) == (3, "random", 5)
    assert study.budget.plateau is not None and study.budget.plateau.trials == 9


def test_another_metric_brings_nothing_of_the_one_in_the_file() -> None:
    assert load_study("quickstart", ["objective.metric=val_accuracy"]).to_mapping()["objective"]["mode"] == "max"
    with pytest.raises(
        StudyError, match=r"objective\.mode must be said of a metric that is called val_loss, got none: min if less"
    ):
        load_study("quickstart", ["objective.metric=val_loss", "objective.target=0.1"])
    overrides = ["objective.metric=val_loss", "objective.mode=min", "objective.target=0.1"]
    found = load_study("quickstart", overrides).to_mapping()["objective"]
    assert found == {"metric": "val_loss", "mode": "min", "target": 0.1, "reference": None}
    whole = load_study("quickstart", ["objective={metric: val_loss, mode: min}"]).to_mapping()["objective"]
    assert whole["mode"] == "min"


@pytest.mark.parametrize(
    ("overrides", "differs"),
    [
        ([], {}),
        (["name=other", "output=elsewhere"], {}),
        (["budget.trials=7", "sampler.seed=5"], {"sampler.seed": "5", "budget.trials": "7"}),
        (["budget.plateau.trials=9"], {"budget.plateau": "{trials: 9, min_delta: 0.0}"}),
        (["sampler.name=random"], {"sampler": "{name: random, seed: 1, known: [], warm_start: [], repeats: reuse, "
                                              "deterministic: false}"}),
        (["data.dir='1e-4'"], {"data.dir": "'1e-4'"}),
    ],
)  # fmt: skip
def test_what_another_study_says_can_be_typed(overrides: list[str], differs: dict[str, str]) -> None:
    before, after = load_study("quickstart"), load_study("quickstart", overrides)
    found = changes(before.to_mapping(), after.to_mapping())
    assert found == differs
    again = load_study("quickstart", [f"{key}={value}" for key, value in found.items()])
    assert changes(after.to_mapping(), again.to_mapping()) == {}


def test_1e_4_is_a_number(tmp_path: Path) -> None:
    assert yaml_text.load("[1e-4, 2E5, 1.0e-3, 12, 0x10, e5]") == [1e-4, 2e5, 1e-3, 12, 16, "e5"]


def test_a_tilde_is_the_home_of_who_types_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    study = load_study("quickstart", ["output=~/runs", "data={dataset: ~/pictures, dir: ~/sets}"])
    assert study.run_directory == tmp_path / "runs" / "quickstart" and isinstance(study.data, DataSection)
    assert (study.data.dataset, study.data.dir) == (f"{tmp_path}/pictures", f"{tmp_path}/sets")
    assert load_study("quickstart", ["output=a~/b"]).run_directory == Path("a~/b/quickstart")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5h", 5400), ("1d", 86400), ("1h30m", 5400), ("1d 12h", 129600)],
)
def test_durations(text: str, seconds: float) -> None:
    study = load_study("quickstart", [f"budget.wall={text}"])
    assert study.budget.wall == seconds
    assert load_study("quickstart", [f"budget.wall={duration_text(seconds)}"]).budget.wall == seconds


def test_a_whole_number_may_be_written_with_its_power_of_ten() -> None:
    study = load_study(
        "quickstart", ["budget.trials=1e2", "space={hidden: {int: [1, 1e3], log: true}}", "sampler.seed=2.0"]
    )
    assert (study.budget.trials, study.space.parameters["hidden"].high, study.sampler.seed) == (100, 1000, 2)  # type: ignore[union-attr]
    assert {type(study.budget.trials), type(study.space.parameters["hidden"].high)} == {int}  # type: ignore[union-attr]
    assert load_study("quickstart", ["resources.concurrent=4.0"]).resources.concurrent == 4


def test_other_tools_words_lead_to_keys_that_there_are() -> None:
    keys = {path for _, path in messages._keys(Study)}
    assert set(messages._ELSEWHERE) <= keys and {"space", "budget.trials", "early_stop.min_trials"} <= keys


def complaint(text: str, tmp_path: Path) -> str:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    with pytest.raises(StudyError) as raised:
        load_study(str(path))
    return str(raised.value).replace(f"{path}", "s.yaml")


KEYS = "name, workload, data, objective, constraints, foresee, space, space_from, sampler, early_stop, budget, resources, precision, failures, checkpoints, confirm, output"
BROKEN = {
    "budgets: {trials: 3}": f"s.yaml, line 1: unknown key 'budgets'; known: {KEYS} (did you mean 'budget'?)",
    "name: a\nbudget:\n  trails: 3": "s.yaml, line 3: unknown key 'trails' in budget; known: trials, wall, trial_wall, "
    "plateau (did you mean 'trials'?)",
    "budget: {plateau: {trails: 3}}": "s.yaml, line 1: unknown key 'trails' in budget.plateau; known: trials, min_delta "
    "(did you mean 'trials'?)",
    "trials: 3": f"s.yaml, line 1: unknown key 'trials'; known: {KEYS} (did you mean 'budget.trials'?)",
    "budget: {max_epochs: 3}": "s.yaml, line 1: unknown key 'max_epochs' in budget; known: trials, wall, trial_wall, plateau "
    "(did you mean 'early_stop.max_epochs'?)",
    "scheduler: asha": f"s.yaml, line 1: unknown key 'scheduler'; known: {KEYS} (did you mean 'early_stop'?)",
    "min: 3": f"s.yaml, line 1: unknown key 'min'; known: {KEYS}",
    "objective: {metric: val/RMSE}": "s.yaml, line 1: objective.mode must be said of a metric that is called val/RMSE, got "
    "none: min if less of it is better, max if more is",
    "objective: [{metric: score}, {metric: train_loss}]": "s.yaml, line 1: objective.mode must be said of a metric that is "
    "called train_loss, got none: min if less of it is better, max if more is",
    "budget: {trials: 0}": "s.yaml, line 1: budget.trials must be at least 1, got 0",
    "budget: {trials: -3}": "s.yaml, line 1: budget.trials must be at least 1, got -3",
    "budget: {trials: many}": "s.yaml, line 1: budget.trials must be a whole number, got 'many'",
    "budget: {trials: 1.0e+300}": "s.yaml, line 1: budget.trials must be a whole number, got 1e+300",
    "budget: {trials: 2.5}": "s.yaml, line 1: budget.trials must be a whole number, got 2.5",
    "budget: {trials: true}": "s.yaml, line 1: budget.trials must be a whole number, got True",
    "budget: {trials: null}": "s.yaml, line 1: budget.trials must be a whole number, got None",
    "budget: 7": "s.yaml, line 1: budget must be a mapping like {trials: 30}, got 7",
    "budget: {wall: 30}": "s.yaml, line 1: budget.wall must be a duration like 90s, 30m or 1h30m, got 30",
    "budget: {wall: 0s}": "s.yaml, line 1: budget.wall must be a duration like 90s, 30m or 1h30m, got '0s'",
    "budget: {trial_wall: soon}": "s.yaml, line 1: budget.trial_wall must be a duration like 90s, 30m or 1h30m, got 'soon'",
    "space: digit": "s.yaml, line 1: unknown space 'digit'; known: digits (did you mean 'digits'?); or package.module:name, or a mapping",
    "space: {model: {choice: []}}": "s.yaml, line 1: space.model: choice needs at least one option, got []; "
    "list the values to choose from",
    "space: {dropout: {float: [0.5, 0.1]}}": "s.yaml, line 1: space.dropout: float range needs low < high, got low=0.5, "
    "high=0.1; swap or widen them",
    "space: {learning_rate_adam: {float: [0, 1], log: true}}": "s.yaml, line 1: space.learning_rate_adam: a log range "
    "needs low > 0, got low=0; raise low or drop log",
    "space: {widht: {int: [8, 9]}}": "s.yaml, line 1: space: unknown parameter 'widht' of the workload digits; "
    f"known: {', '.join(DIGITS_PARAMETERS)} (did you mean 'width'?)",
    "space: {model: {choice: [cnn, vit]}}": "s.yaml, line 1: space.model must choose among mlp, cnn, resnet, got 'vit'",
    "workload: digit": "s.yaml, line 1: unknown workload 'digit'; known: digits (did you mean 'digits'?); or "
    "package.module:function",
    "workload: 3": "s.yaml, line 1: workload must be text, got 3",
    "data: null": "s.yaml, line 1: data must name a data set for the workload digits, got null",
    "data: {validation: 0}": "s.yaml, line 1: data.validation must be a number of images >= 1 or a share between 0 and 1, "
    "got 0",
    "data: {dataset: 5}": "s.yaml, line 1: data.dataset must be text, got 5",
    "sampler: {name: tpee}": "s.yaml, line 1: unknown sampler 'tpee'; known: tpe, gp, cmaes, random, qmc, grid, nsga2, nsga3 (did you mean 'tpe'?)",
    "sampler: {seed: -1}": "s.yaml, line 1: sampler.seed must be at least 0, got -1",
    "early_stop: {name: ash}": "s.yaml, line 1: unknown early_stop 'ash'; known: asha, hyperband, median, none, pbt (did you mean 'asha'?)",
    "early_stop: {grace_epochs: 9, max_epochs: 3}": "s.yaml, line 1: early_stop.grace_epochs must be at most early_stop.max_epochs, got 9 > 3; change one",
    "early_stop: {name: median, reduction: 3}": "s.yaml, line 1: unknown key 'reduction' in early_stop median; known: name, grace_epochs, max_epochs, min_trials",
    "early_stop: {name: pbt, quantile: 0.9}": "s.yaml, line 1: early_stop.quantile must be at most 0.5, got 0.9",
    "early_stop: {name: [asha]}": "s.yaml, line 1: unknown early_stop \"['asha']\"; known: asha, hyperband, median, none, pbt (did you mean 'asha'?)",
    "sampler: {name: [tpe]}": "s.yaml, line 1: unknown sampler \"['tpe']\"; known: tpe, gp, cmaes, random, qmc, grid, nsga2, nsga3 (did you mean 'tpe'?)",
    "sampler: {warm_start: runs/a}": "s.yaml, line 1: sampler.warm_start must be a list, like [runs/a], got 'runs/a'",
    "sampler: {known: {x: 1}}": "s.yaml, line 1: sampler.known must be a list, like [{…}], got {'x': 1}",
    'objective: {metric: "a\\nb"}': "s.yaml, line 1: objective.metric must be a name that can be shown on a line, got 'a\\nb'",
    "objective: {metric: ''}": "s.yaml, line 1: objective.metric must be a name that can be shown on a line, got ''",
    "objective: [{metric: ' '}, {metric: a}]": "s.yaml, line 1: objective.0.metric must be a name that can be shown on a line, got ' '",
    'constraints: {"a\\0": {max: 1}}': "s.yaml, line 1: constraints must have names that can be shown on a line, got 'a\\x00'",
    "sampler: {known: 3}": "s.yaml, line 1: sampler.known must be a list, got 3",
    "sampler: {known: [3]}": "s.yaml, line 1: sampler.known.0 must be a mapping of names to values, got 3",
    "early_stop: {reduction: 1}": "s.yaml, line 1: early_stop.reduction must be at least 2, got 1",
    "objective: {mode: up}": "s.yaml, line 1: objective.mode must be 'max' or 'min', got 'up'",
    "objective: {target: .nan}": "s.yaml, line 1: objective.target must be a finite number, got nan",
    "resources: {concurrent: 0}": "s.yaml, line 1: resources.concurrent must be a whole number of at least 1, or auto, got 0",
    "resources: {concurrent: all}": "s.yaml, line 1: resources.concurrent must be a whole number of at least 1, or auto, "
    "got 'all'",
    "sampler: {neighbour_every: -1}": "s.yaml, line 1: sampler.neighbour_every must be a whole number of at least 0, or "
    "auto, got -1",
    "resources: {gpu: 1.5}": "s.yaml, line 1: resources.gpu must be a fraction of one GPU, at least 0.0001, or a whole number, got 1.5",
    "resources: {custom: {tpu: 1.5}}": "s.yaml, line 1: resources.custom must hold fractions of one, at least 0.0001, or whole numbers, got {'tpu': 1.5}",
    "resources: {custom: {GPU: 1}}": "s.yaml, line 1: resources.custom must name resources other than cpu, gpu and memory, got {'GPU': 1}",
    "resources: {custom: {tpu: 0}}": "s.yaml, line 1: resources.custom.tpu must be greater than 0, got 0",
    "resources: {gpu: -1}": "s.yaml, line 1: resources.gpu must be at least 0.0, got -1",
    "name: 5": "s.yaml, line 1: name must be text, got 5",
    "name: ''": "s.yaml, line 1: name must be letters, digits, dots, dashes and underscores, for a folder, got ''",
    "name: ../up": "s.yaml, line 1: name must be letters, digits, dots, dashes and underscores, for a folder, got '../up'",
    "output: 3": "s.yaml, line 1: output must be text, got 3",
    "output: s3://key:secret@bucket": "s.yaml, line 1: output: shared storage must be named like s3://bucket/prefix, gs://… or az://…, got 's3://…'; keys and servers come from the environment",
    "workload: a.b": "s.yaml, line 1: unknown workload 'a.b'; known: digits; or package.module:function",
    "workload: 'a:b c'": "s.yaml, line 1: unknown workload 'a:b c'; known: digits; or package.module:function",
    "data: mnist": "s.yaml, line 1: data must be a mapping like {dataset: mnist}, package.module:name or null, got 'mnist'",
    "data: 'mine:load'": "s.yaml, line 1: data must name a data set for the workload digits, got 'mine:load'",
    "space_from: mine": "s.yaml, line 1: space_from must be like package.module:name, got 'mine'",
    "space: 'nowhere:SPACE'": "s.yaml, line 1: space 'nowhere:SPACE' must be importable as package.module:name, got No module named 'nowhere'; "
    + "it is looked for in the folder where this is typed, in PYTHONPATH, and among what is installed",
    "data: [mnist]": "s.yaml, line 1: data must be a mapping like {dataset: mnist}, package.module:name or null, got ['mnist']; "
    "what a program has in memory it gives by a function: lambda: data",
    "data: {dir: null}": "s.yaml, line 1: data.dir must be text, got None",
    "data: {validation: 1.5}": "s.yaml, line 1: data.validation must be a number of images >= 1 or a share between 0 and 1, got 1.5",
    "data: {validation: -5}": "s.yaml, line 1: data.validation must be a number of images >= 1 or a share between 0 and 1, got -5",
    "data: {split_seed: -1}": "s.yaml, line 1: data.split_seed must be at least 0, got -1",
    "data: {split_sed: 1}": "s.yaml, line 1: unknown key 'split_sed' in data; known: dataset, dir, validation, split_seed (did you mean 'split_seed'?)",
    "objective: val_accuracy": "s.yaml, line 1: objective must be a mapping like {metric: val_accuracy, mode: max}, got 'val_accuracy'",
    "objective: []": "s.yaml, line 1: objective must hold at least one, got []",
    "objective: [3]": "s.yaml, line 1: objective.0 must be a mapping of keys to values, got 3",
    "objective: [{metric: a}, {metrik: b}]": "s.yaml, line 1: unknown key 'metrik' in objective.1; known: metric, mode, target, reference (did you mean 'metric'?)",
    "objective: [{metric: a}, {metric: a}]": "s.yaml, line 1: objective must name a metric once, got 'a' again",
    "objective: [{metric: a, target: 1.0}, {metric: b}]": "s.yaml, line 1: objective.0.target can't be where there are several objectives; bound the metrics by constraints",
    "objective: {reference: 1.0}": "s.yaml, line 1: objective.reference must be left out where there is one objective",
    "objective: [{metric: a}, {metric: b, mode: min}]\nearly_stop: {name: median}": "s.yaml, line 2: early_stop 'median' compares trials by one objective, and there are several; those that can: asha, hyperband, none",
    "objective: [{metric: a}, {metric: b, mode: min}]\nearly_stop: {name: pbt}": "s.yaml, line 2: early_stop 'pbt' compares trials by one objective, and there are several; those that can: asha, hyperband, none",
    "objective: [{metric: a}, {metric: b, mode: min}]\nbudget: {plateau: {min_delta: 0.1}}": "s.yaml, line 2: budget.plateau.min_delta must be 0 where there are several objectives: any change of the Pareto set is progress",
    "constraints: {n: {}}": "s.yaml, line 1: constraints.n must have min or max, or both, like {max: 20000}",
    "constraints: {n: {maxx: 3}}": "s.yaml, line 1: unknown key 'maxx' in constraints.n; known: min, max (did you mean 'max'?)",
    "constraints: {max: {maxx: 3}}": "s.yaml, line 1: unknown key 'maxx' in constraints.max; known: min, max (did you mean 'max'?)",
    "constraints: {n: {min: 3, max: 1}}": "s.yaml, line 1: constraints.n must have min <= max, got 3 > 1",
    "constraints: {n: 3}": "s.yaml, line 1: constraints.n must be a mapping of keys to values, got 3",
    "foresee: size": "s.yaml, line 1: foresee must be like package.module:name, got 'size'",
    "objective: {metric: 3}": "s.yaml, line 1: objective.metric must be text, got 3",
    "objective: {target: high}": "s.yaml, line 1: objective.target must be a number, got 'high'",
    "sampler: tpe": "s.yaml, line 1: sampler must be a mapping like {name: tpe}, got 'tpe'",
    "sampler: {seed: 3000000000}": "s.yaml, line 1: sampler.seed must be below 2147483648, got 3000000000",
    "sampler: {seeds: 3}": "s.yaml, line 1: unknown key 'seeds' in sampler tpe; known: name, seed, known, warm_start, repeats, deterministic, n_startup_trials, n_ei_candidates, neighbour_every (did you mean 'seed'?)",
    "early_stop: {max_epochs: 0}": "s.yaml, line 1: early_stop.max_epochs must be at least 1, got 0",
    "early_stop: {reduction: 2.5}": "s.yaml, line 1: early_stop.reduction must be a whole number, got 2.5",
    "resources: {cpu: 0}": "s.yaml, line 1: resources.cpu must be at least 1, got 0",
    "resources: {cpu: 0.5}": "s.yaml, line 1: resources.cpu must be a whole number, got 0.5",
    "resources: {slots: 2}": "s.yaml, line 1: unknown key 'slots' in resources; known: cpu, gpu, custom, workers, concurrent (did you mean 'resources.concurrent'?)",
    "resources: {workers: 0}": "s.yaml, line 1: resources.workers must be at least 1, got 0",
    "resources: {workers: 2, gpu: 0.5}": "s.yaml, line 1: gpu must be a whole number where a trial has several workers: nccl gives each its own",
    "resources: {gpu: .inf}": "s.yaml, line 1: resources.gpu must be a finite number, got inf",
    "failures: {retries: -1}": "s.yaml, line 1: failures.retries must be at least 0, got -1",
    "failures: {nan: ignore}": "s.yaml, line 1: failures.nan must be 'fail' or 'prune', got 'ignore'",
    "checkpoints: {keep_best: 0}": "s.yaml, line 1: checkpoints.keep_best must be at least 1, got 0",
    "checkpoints: {every_epochs: often}": "s.yaml, line 1: checkpoints.every_epochs must be a whole number, got 'often'",
    "confirms: {top: 3}": f"s.yaml, line 1: unknown key 'confirms'; known: {KEYS} (did you mean 'confirm'?)",
    "confirm: {seeds: 1}": "s.yaml, line 1: confirm.seeds must be at least 2, got 1",
    "space: 3": "s.yaml, line 1: a space must be a mapping of names to parameters, got 3",
    "space: {width: {int: [8.5, 9]}}": "s.yaml, line 1: space.width: int low must be a whole number, got 8.5; use float",
    "space: {width: {int: [-5, 0]}}": "s.yaml, line 1: space.width must hold whole numbers in [1, 1024], got -5",
    "space: {width: {float: [1, 4]}}": "s.yaml, line 1: space.width must hold whole numbers in [1, 1024], got 'a range of real numbers'",
    "space: {batch_size: {choice: [x]}}": "s.yaml, line 1: space.batch_size must hold whole numbers in [2, 65536], got 'x'",
    "space: {dropout: {float: [0, 5]}}": "s.yaml, line 1: space.dropout must hold numbers in [0.0, 0.95], got 5",
    "space: {augment: {choice: [1, 0]}}": "s.yaml, line 1: space.augment must choose among True, False, got 1",
    "name: {{ foo }}": "s.yaml: line 1: a key must be one word, got a list or a mapping",
    "name: 2020-13-45": "s.yaml: must be valid YAML; month must be in 1..12",
    "a: &x [*x]": f"s.yaml, line 1: unknown key 'a'; known: {KEYS}",
    "name: a/b": "s.yaml, line 1: name must be letters, digits, dots, dashes and underscores, for a folder, got 'a/b'",
    "name: a\nname: b": "s.yaml: line 2: the key 'name' is there twice; drop one",
    "- a": "s.yaml: a study must be a mapping of keys to values, got ['a']",
    "- " + "a" * 1000: f"s.yaml: a study must be a mapping of keys to values, got ['{'a' * 78}…",
    "name: "
    + "a/" * 1000: "s.yaml, line 1: name must be letters, digits, dots, dashes and underscores, for a folder, got "
    f"'{'a/' * 39}a…",
    "name: [a": "s.yaml: line 1: must be valid YAML; expected ',' or ']', but got '<stream end>'",
    "name: !!python/object/apply:os.system [ls]": "s.yaml: line 1: must be valid YAML; could not determine a constructor "
    "for the tag 'tag:yaml.org,2002:python/object/apply:os.system'",
}


def test_there_are_many_of_them() -> None:
    assert len(BROKEN) >= 60


@pytest.mark.parametrize(("text", "message"), BROKEN.items())
def test_a_broken_study_file_is_refused_by_key_and_line(text: str, message: str, tmp_path: Path) -> None:
    assert complaint(text, tmp_path) == message


@pytest.mark.parametrize(
    ("file", "name"),
    [("mine.yaml", "mine"), ("my study (2).yml", "my-study-2"), ("größe.v2.yaml", "gr-e.v2"), ("..yaml", "study")],
)
def test_a_study_without_a_name_is_called_as_its_file(file: str, name: str, tmp_path: Path) -> None:
    (tmp_path / file).write_text("budget: {trials: 1}\n")
    assert load_study(str(tmp_path / file)).name == name


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    found = complaint("budget: {trials: 0}\nsampler: {seed: x}\n", tmp_path)
    assert found.splitlines() == [
        "s.yaml, line 2: sampler.seed must be a whole number, got 'x'",
        "s.yaml, line 1: budget.trials must be at least 1, got 0",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("budget.trials=0", "--set: budget.trials must be at least 1, got 0"),
        ("trials", "--set needs key.key=value, got 'trials'; like --set budget.trials=5"),
        ("budget..trials=1", "--set needs key.key=value, got 'budget..trials=1'; like --set budget.trials=5"),
        ("name=[a", "--set name: line 1: must be valid YAML; expected ',' or ']', but got '<stream end>'"),
    ],
)
def test_a_wrong_override_is_called_one(override: str, message: str) -> None:
    with pytest.raises(StudyError) as raised:
        load_study("quickstart", [override])
    assert str(raised.value) == message


def test_an_unknown_study_is_refused_with_the_known_ones() -> None:
    with pytest.raises(StudyError) as raised:
        load_study("quickstrat")
    assert str(raised.value) == (
        "unknown study 'quickstrat': no such file, and the built-in ones are mnist, mnist-best, mnist-small, quickstart (did you mean 'quickstart'?)"
    )
