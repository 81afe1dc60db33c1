"""The deployment files: valid by the schemas of those who read them, at the versions of the lock, with commands that are."""

import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.protocols import Validator
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from referencing import Registry, Resource
from typer.main import get_command

from search import load_study
from search.command import app
from search.study import built_in_studies

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "cluster" / "deploy"
FILES = ("Dockerfile", "raycluster.yaml", "rayjob.yaml", "ray-up-aws.yaml")
LOCK = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.M))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RAY = LOCK["ray"]
# Where a version stands in the files, and whose it is.
VERSIONS = {
    r"digitsearch:ray([\w.]+?)-(?:cpu|cuda)\b": "ray",
    r'rayVersion: "?([^"\s]+)': "ray",
}


def text_of(name: str) -> str:
    return (DEPLOY / name).read_text()


# The checks: what is wrong with a file's text, a line each


def schema_problems(name: str, text: str) -> list[str]:
    """Against KubeRay's and Kubernetes' schemas, or, for `ray up`, against the one that Ray itself checks with."""
    document = yaml.safe_load(text)
    if name.startswith("ray-up"):
        path = Path(str(find_spec("ray").origin)).parent / "autoscaler" / "ray-schema.json"
        validator: Validator = Draft7Validator(json.loads(path.read_text()))
    else:
        validator = kuberay()
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


@cache
def kuberay() -> Validator:
    ours, theirs = (
        json.loads((DEPLOY / "schemas" / f"{name}.schema.json").read_text()) for name in ("kuberay", "kubernetes")
    )
    for schema in (ours, theirs):
        Draft202012Validator.check_schema(schema)
    return Draft202012Validator(ours, registry=Registry().with_resource(theirs["$id"], Resource.from_contents(theirs)))


def version_problems(text: str) -> list[str]:
    """Against the lock; a file that names no version of Ray could not be seen to differ."""
    found = [(whose, version) for pattern, whose in VERSIONS.items() for version in re.findall(pattern, text)]
    found += re.findall(r"\b([A-Za-z][\w.-]*)==(\d[\w.]*)", text)
    problems = [
        f"{whose} is {version}, and {LOCK.get(whose)} in requirements.txt"
        for whose, version in found
        if LOCK.get(whose) != version
    ]
    return problems if found else ["no version of Ray"]


def image_problems(text: str) -> list[str]:
    """Every image is the Dockerfile's, at a tag that tells its Ray and its accelerator."""
    images = re.findall(r"^[^#\n]*image: (\S+)", text, re.M)
    known = re.compile(r"REGISTRY/digitsearch:ray[\d.]+-(cpu|cuda)")
    return [f"an image that the Dockerfile does not build: {image}" for image in images if not known.fullmatch(image)]


def python_problems(text: str) -> list[str]:
    """The base image's Python against requires-python."""
    versions = re.findall(r"^FROM python:([\d.]+)-slim$", text, re.M)
    return [
        f"Python is {version}, and must be {PROJECT['requires-python']}"
        for version in versions or ["missing"]
        if version == "missing" or Version(version) not in SpecifierSet(PROJECT["requires-python"])
    ]


def install_problems(text: str) -> list[str]:
    """Everything that pip installs is held to the lock, and nothing comes from an index but PyPI and PyTorch's own."""
    steps = re.findall(r"pip install .*", text)
    problems = [
        f"not held to requirements.txt: {step}" for step in steps if not re.search(r"-c requirements|torch\.txt", step)
    ]
    indexes = re.findall(r"--(?:extra-)?index-url[ =](\S+)", text)
    problems += [f"an index of its own: {url}" for url in indexes if url != "https://download.pytorch.org/whl/cpu"]
    if "grep -E '^(torch|torchvision)==' requirements.txt > torch.txt" not in text:
        problems.append("torch.txt is not made of requirements.txt")
    return problems if steps else ["nothing is installed"]


def commands(name: str, text: str) -> Iterator[list[str]]:
    """Every `digitsearch`, `python -m search` and `ray` that somebody is told to type, or that is typed for them."""
    for line in text.splitlines():
        typed = line[6:] if line.startswith("#     ") else "" if line.startswith("#") else line
        for part in re.split(r"&&|;|\|", typed):
            if found := re.search(r"(?:^|\s)((?:digitsearch|python -m search|ray) [a-z].*)", part.rstrip("\\ ")):
                yield shlex.split(found[1].replace("python -m search", "digitsearch"))
    if name.startswith("raycluster"):
        for group in groups(yaml.safe_load(text)["spec"]):
            yield ["ray", "start", *(f"--{key}={value}" for key, value in group["rayStartParams"].items())]


def command_problems(name: str, text: str) -> list[str]:
    """Against the command lines themselves: the verb, its options, the study, and what is put in it."""
    typed = list(commands(name, text))
    return [f"{shlex.join(words)}: {problem}" for words in typed for problem in said_of(words)] or (
        [] if typed else ["no command"]
    )


def said_of(words: Sequence[str]) -> list[str]:
    from ray.scripts.scripts import cli as ray_command  # takes a second

    program, verb, *rest = words
    known = (get_command(app) if program == "digitsearch" else ray_command).commands
    if verb not in known:
        return [f"no verb {verb}"]
    try:
        said = known[verb].make_context(verb, rest).params
        if program == "digitsearch" and verb in ("run", "submit"):
            load_study(said["study"], said["set_"])
    except Exception as err:  # typer's, click's or ours: its text is what is wrong
        return [str(err)]
    study = said.get("study", "mnist")
    return [] if study in built_in_studies() else [f"no study in the image: {study}"]


def path_problems(text: str) -> list[str]:
    named = set(re.findall(r"cluster/deploy/[\w.-]+", text))
    return [f"no file {path}" for path in named if not (ROOT / path).is_file()]


def groups(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def containers(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [container for group in groups(spec) for container in group["template"]["spec"]["containers"]]


# The files


@pytest.mark.parametrize("name", FILES[1:])
def test_a_file_is_valid_by_the_schema_of_who_reads_it(name: str) -> None:
    assert schema_problems(name, text_of(name)) == []


@pytest.mark.parametrize("name", FILES)
def test_versions_and_images_are_those_of_the_lock(name: str) -> None:
    text = text_of(name)
    assert version_problems(text) + image_problems(text) == []


@pytest.mark.parametrize("name", FILES)
def test_every_command_is_one(name: str) -> None:
    assert command_problems(name, text_of(name)) + path_problems(text_of(name)) == []


def test_the_image_has_a_python_that_fits_and_only_what_the_lock_pins() -> None:
    text = text_of("Dockerfile")
    assert python_problems(text) + install_problems(text) == []


def test_the_image_has_every_package_and_a_user_that_is_not_root() -> None:
    text = text_of("Dockerfile")
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert re.findall(r"^COPY (\w+) \1$", text, re.M) == packages["packages"]
    assert re.findall(r"^USER (\w+)$", text, re.M) == ["ray"]
    (workdir,) = re.findall(r"^WORKDIR (/home\S+)$", text, re.M)
    assert f"PYTHONPATH={workdir}" in text
    assert {"wget", "rsync", "openssh-client"} <= set(re.findall(r"[\w-]+", text))  # see the comment there


def test_a_job_and_a_cluster_are_the_same_cluster() -> None:
    job, cluster = (yaml.safe_load(text_of(name))["spec"] for name in ("rayjob.yaml", "raycluster.yaml"))
    assert job["rayClusterSpec"] == cluster
    assert job["shutdownAfterJobFinishes"] and job["backoffLimit"] == 0


def test_workers_come_and_go_and_a_gpu_is_counted_alike_by_ray_and_kubernetes() -> None:
    spec = yaml.safe_load(text_of("raycluster.yaml"))["spec"]
    assert spec["enableInTreeAutoscaling"] is True
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] == 0 < group["maxReplicas"]
        limits = group["template"]["spec"]["containers"][0]["resources"]["limits"]
        counted = group["rayStartParams"]
        assert (counted["num-cpus"], counted.get("num-gpus", "0")) == (
            limits["cpu"],
            str(limits.get("nvidia.com/gpu", 0)),
        )
        assert ("cuda" in group["template"]["spec"]["containers"][0]["image"]) == ("num-gpus" in counted)
    types = yaml.safe_load(text_of("ray-up-aws.yaml"))
    workers = {name: type_ for name, type_ in types["available_node_types"].items() if name != types["head_node_type"]}
    assert all(type_["min_workers"] == 0 < type_["max_workers"] for type_ in workers.values())
    assert [name for name, type_ in workers.items() if type_["resources"].get("GPU")] == ["gpu"]


def test_a_cluster_wants_a_token_opens_two_ports_inside_and_holds_no_secret() -> None:
    spec = yaml.safe_load(text_of("raycluster.yaml"))["spec"]
    assert spec["authOptions"] == {"mode": "token"} and spec["headGroupSpec"]["serviceType"] == "ClusterIP"
    assert {port["containerPort"] for container in containers(spec) for port in container.get("ports", [])} == {
        6379,
        8265,
    }
    assert all("env" not in container and container["envFrom"][0]["secretRef"] for container in containers(spec))
    assert all(group["template"]["spec"]["securityContext"]["runAsNonRoot"] for group in groups(spec))
    up = yaml.safe_load(text_of("ray-up-aws.yaml"))
    assert "--env RAY_AUTH_MODE=token" in up["docker"]["run_options"]
    assert "--dashboard-host=127.0.0.1" in up["head_start_ray_commands"][-1]


# What each check would find


def mutated(name: str, old: str, new: str) -> str:
    text = text_of(name)
    assert old in text, f"{name} has no {old!r} any more: mutate something else"
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("raycluster.yaml", "enableInTreeAutoscaling", "enableAutoscaling", r"\$\.spec: .*'enableAutoscaling' was unexpected"),
        ("raycluster.yaml", "maxReplicas: 4", 'maxReplicas: "4"', r"workerGroupSpecs\[0\]\.maxReplicas: '4' is not of type"),
        ("raycluster.yaml", "mode: token", "mode: tokens", r"authOptions\.mode: 'tokens' is not one of \['disabled', 'token'\]"),
        ("raycluster.yaml", "envFrom", "envfrom", r"containers\[0\]: .*'envfrom' was unexpected"),
        ("raycluster.yaml", "limits: {cpu", "limit: {cpu", r"autoscalerOptions\.resources: .*'limit' was unexpected"),
        ("raycluster.yaml", "secretRef: {name", "secretRef: {names", r"envFrom\[0\]\.secretRef: .*'names' was unexpected"),
        ("raycluster.yaml", "  headGroupSpec:", "  headGroup:", r"\$\.spec: 'headGroupSpec' is a required property"),
        ("raycluster.yaml", "apiVersion: ray.io/v1", "apiVersion: ray.io/v1alpha1", r"apiVersion: 'ray.io/v1' was expected"),
        ("raycluster.yaml", "kind: RayCluster", "kind: Raycluster", r"\$\.kind: 'Raycluster' is not one of"),
        ("rayjob.yaml", "shutdownAfterJobFinishes", "shutdownAfterJob", r"\$\.spec: .*'shutdownAfterJob' was unexpected"),
        ("rayjob.yaml", "ttlSecondsAfterFinished: 300", "ttlSecondsAfterFinished: 5m", r"'5m' is not of type 'integer'"),
        ("rayjob.yaml", "    rayVersion:", "    rayversion:", r"rayClusterSpec: .*'rayversion' was unexpected"),
        ("ray-up-aws.yaml", "head_node_type:", "head_type:", r"\$: .*'head_type' was unexpected"),
        ("ray-up-aws.yaml", "CPU: 4, GPU: 1", "CPU: 4, GPU: one", r"gpu\.resources\.GPU: 'one' is not of type 'integer'"),
        ("ray-up-aws.yaml", "  pull_before_run", "  pull", r"docker: .*'pull' was unexpected"),
    ],
)  # fmt: skip
def test_a_misspelt_field_is_found(name: str, old: str, new: str, problem: str) -> None:
    assert any(re.search(problem, found) for found in schema_problems(name, mutated(name, old, new)))


@pytest.mark.parametrize(
    ("check", "name", "old", "new", "problem"),
    [
        (version_problems, "Dockerfile", f"ray{RAY}-cuda", "ray1.2.3-cuda", f"ray is 1.2.3, and {RAY} in requirements.txt"),
        (version_problems, "raycluster.yaml", f'rayVersion: "{RAY}"', 'rayVersion: "1.2.3"', f"ray is 1.2.3, and {RAY} in requirements.txt"),
        (version_problems, "rayjob.yaml", f"ray{RAY}-cpu", "ray1.2.3-cpu", f"ray is 1.2.3, and {RAY} in requirements.txt"),
        (version_problems, "ray-up-aws.yaml", f"ray{RAY}-cuda", "ray1.2.3-cuda", f"ray is 1.2.3, and {RAY} in requirements.txt"),
        (version_problems, "Dockerfile", "echo boto3", "echo boto3==1.2.3", f"boto3 is 1.2.3, and {LOCK['boto3']} in requirements.txt"),
        (image_problems, "rayjob.yaml", f"image: REGISTRY/digitsearch:ray{RAY}-cpu", f"image: rayproject/ray:{RAY}", f"an image that the Dockerfile does not build: rayproject/ray:{RAY}"),
        (image_problems, "ray-up-aws.yaml", f"ray{RAY}-cuda", "latest", "an image that the Dockerfile does not build: REGISTRY/digitsearch:latest"),
        (python_problems, "Dockerfile", "python:3.11-slim", "python:3.10-slim", "Python is 3.10, and must be >=3.11"),
        (install_problems, "Dockerfile", " -c requirements.txt", "", "not held to requirements.txt: pip install --no-cache-dir -r needed.txt \\"),
        (install_problems, "Dockerfile", "download.pytorch.org/whl/cpu", "example.org/simple", "an index of its own: https://example.org/simple"),
        (path_problems, "raycluster.yaml", "cluster/deploy/raycluster.yaml", "cluster/deploy/cluster.yaml", "no file cluster/deploy/cluster.yaml"),
    ],
)  # fmt: skip
def test_another_version_is_found(
    check: Callable[[str], list[str]], name: str, old: str, new: str, problem: str
) -> None:
    assert check(mutated(name, old, new)) == [problem]


@pytest.mark.parametrize("package", ["ray", "boto3"])
def test_a_lock_that_moves_on_is_found(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LOCK, package, "99.0.0")
    found = [problem for name in FILES for problem in version_problems(text_of(name))]
    assert all(problem == f"ray is {RAY}, and 99.0.0 in requirements.txt" for problem in found)
    assert bool(found) == (package == "ray")  # boto3's version stands in the lock alone


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("rayjob.yaml", "entrypoint: python -m search run mnist --wait", "entrypoint: python -m search run mnist --wate", "No such option: --wate"),
        ("rayjob.yaml", "entrypoint: python -m search run mnist", "entrypoint: python -m search search mnist", "no verb search"),
        ("rayjob.yaml", "entrypoint: python -m search run mnist", "entrypoint: python -m search run mnits", "unknown study 'mnits'"),
        ("rayjob.yaml", "output=s3://BUCKET/runs", "outputs=s3://BUCKET/runs", "unknown key 'outputs'"),
        ("rayjob.yaml", "budget.wall=1h", "budget.wall=soon", "--set: budget.wall"),
        ("rayjob.yaml", "resources.gpu=0.25", "resources.gpus=0.25", "unknown key 'gpus'"),
        ("raycluster.yaml", "num-gpus", "num-gpu", "--num-gpu"),
        ("raycluster.yaml", "digitsearch trials", "digitsearch trial", "no verb trial"),
        ("ray-up-aws.yaml", "--dashboard-host", "--dashboard-hosts", "--dashboard-hosts"),
        ("ray-up-aws.yaml", "ray up cluster", "ray launch cluster", "no verb launch"),
        ("Dockerfile", '--dir /home/ray/data', '--folder /home/ray/data', "No such option: --folder"),
    ],
)  # fmt: skip
def test_a_command_that_is_none_is_found(name: str, old: str, new: str, problem: str) -> None:
    (found,) = command_problems(name, mutated(name, old, new))
    assert problem in found
