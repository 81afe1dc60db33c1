"""The doctor, with each of its faults simulated: by real processes, disks, limits, files and servers where that can be."""

import ast
import contextlib
import json
import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from test_storage import Server

from cluster.token import token as token_of
from results import Storage, storage
from search.doctor import CHECKS, Finding, State, clusters, examine, gpu, machine, output, versions

ROOT = Path(__file__).parents[1]
OK, WARNING, FAULT = State
HERE = machine.Memory(total=16 * 2**30, used=2 * 2**30)
Typed = Callable[..., "subprocess.CompletedProcess[str]"]


def unwell(finding: Finding, code: str, state: State, found: str) -> None:
    """A finding tells of this fault; the test at the end of this page reads which ones are simulated."""
    assert (finding.code, finding.state) == (code, state), finding
    assert re.search(found, finding.found), finding.found
    assert finding.to_do == CHECKS[code].to_do


def well(finding: Finding, found: str = "") -> None:
    assert finding.state is OK and finding.to_do is None, finding
    assert re.search(found, finding.found), finding.found


def environment(**changed: str) -> dict[str, str]:
    """This process's, with changes; without what names a cluster or its token."""
    names = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    return {**{name: value for name, value in os.environ.items() if name not in names}, **changed}


def by_code(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.code: finding for finding in findings}


def test_the_whole_of_it_looks_at_everything_once_and_imports_neither_ray_nor_torch(tmp_path: Path) -> None:
    code = (
        "import sys; sys.argv = ['digitsearch', 'doctor', '--format', 'json']\n"
        "from search.command import main\n"
        "try: main()\n"
        "except SystemExit as err: assert err.code in (0, 1), err.code\n"
        "assert not {'torch', 'ray', 'optuna', 'pandas', 'pyarrow'} & set(sys.modules), sorted(sys.modules)"
    )
    typed = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(ROOT), PATH="/nowhere"),
        capture_output=True,
        text=True,
    )
    assert typed.returncode == 0, typed.stderr
    found = {record["code"]: record for record in json.loads(typed.stdout)}
    assert list(found) == list(CHECKS)
    for name in ("python", "packages", "pairs", "torch-build", "descriptors", "address", "token", "output", "clock"):
        assert found[name]["state"] == "ok" and found[name]["to_do"] is None, found[name]
    assert all(record["to_do"] for record in found.values() if record["state"] != "ok")
    assert re.search(r"^ok: \d+, warning: \d+, fault: \d+\n$", typed.stderr)
    assert not list(tmp_path.iterdir()), "the doctor left something behind"


def test_a_fault_is_a_line_with_what_to_do_below_it_and_exit_1(type_in: Typed, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    typed = type_in("doctor", "--output", "file/runs")
    assert typed.returncode == 1 and re.search(r"^ok: \d+, warning: \d+, fault: [1-9]\d*\n$", typed.stderr)
    lines = typed.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if " output " in line)
    assert re.fullmatch(r"fault +output +'file/runs': write: Not a directory", lines[at])
    assert lines[at + 1].strip() == f"-> {CHECKS['output'].to_do}"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--output", "ftp://x/y"], "error: shared storage must be named like s3://bucket/prefix, gs://… or az://…, got 'ftp://x/y'"),
        (["--format", "xml"], "'xml' is not one of 'table', 'json', 'csv'"),
        (["runs"], "Got unexpected extra argument"),
    ],
)  # fmt: skip
def test_wrong_words_are_exit_2(words: list[str], message: str, type_in: Typed) -> None:
    typed = type_in("doctor", *words)
    assert typed.returncode == 2 and message in re.sub(r"\s*\n[│ ]*", " ", typed.stderr)
    assert "Traceback" not in typed.stderr and typed.stdout == ""


# Versions


def package(folder: Path, name: str, version: str, *needs: str, source: str = "") -> None:
    """The metadata of an installed package, as pip leaves it."""
    about = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir(parents=True)
    lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {n}" for n in needs)]
    (about / "METADATA").write_text("\n".join(lines) + "\n")
    if source:
        (folder / name).mkdir()
        (folder / name / "version.py").write_text(source)


def test_an_older_torch_for_the_cpu_before_the_installed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, "torch", "2.13.0+cpu", source="__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = by_code(examine(tmp_path, None, environment()))
    unwell(found["packages"], "packages", FAULT, r"^torch>=2\.15, got 2\.13\.0\+cpu$")
    unwell(found["pairs"], "pairs", FAULT, r"torchvision [\d.]+ needs torch>=[\d.]+, got 2\.13\.0\+cpu")
    unwell(found["torch-build"], "torch-build", FAULT, r"^torch built for cpu beside torchvision built for cu\d+$")
    unwell(found["pins"], "pins", WARNING, r"^torch==[\d.]+, got 2\.13\.0\+cpu$")


def asked(root: Path, *requirements: str, python: str = ">=3.11") -> versions.Project:
    needs = json.dumps(requirements)  # a list of TOML as well
    lines = ["[project]", "name = 'digitsearch'", f"requires-python = '{python}'", f"dependencies = {needs}"]
    (root / "pyproject.toml").write_text("\n".join(lines))
    project = versions.project(root)
    assert project
    return project


def test_packages_that_do_not_fit_one_another(tmp_path: Path) -> None:
    site = tmp_path / "site"
    package(site, "optuna", "2.10.1")
    package(site, "optuna-dashboard", "0.21.0", "optuna>=3.6.0", "torch ; extra == 'preferential'")
    package(site, "ray", "2.60.0", "grpcio>=1.42 ; extra == 'default'", "nothing-of-windows ; sys_platform == 'win32'")
    package(site, "grpcio", "1.30.0")
    project = asked(tmp_path, "optuna>=2", "optuna-dashboard", "ray[default]", "never ; python_version < '3'")
    there = versions.Installed([str(site)])
    well(versions.packages(project, there), "^all 3, with ray 2.60.0, optuna 2.10.1$")
    finding = versions.pairs(project, there)
    unwell(finding, "pairs", FAULT, r"optuna-dashboard 0\.21\.0 needs optuna>=3\.6\.0, got 2\.10\.1")
    unwell(finding, "pairs", FAULT, r"ray 2\.60\.0 needs grpcio>=1\.42, got 1\.30\.0")
    assert "torch" not in finding.found and "windows" not in finding.found


def test_a_package_that_is_missing_and_one_that_was_removed_in_part(tmp_path: Path) -> None:
    (tmp_path / "site" / "optuna-5.0.0.dist-info").mkdir(parents=True)
    found = versions.packages(asked(tmp_path, "optuna>=5", "ray"), versions.Installed([str(tmp_path / "site")]))
    unwell(found, "packages", FAULT, "^optuna>=5, got what is left of it; ray, got none$")


def test_long_lists_are_cut_and_counted(tmp_path: Path) -> None:
    found = versions.packages(asked(tmp_path, *(f"p{n}" for n in range(9))), versions.Installed([str(tmp_path)]))
    unwell(found, "packages", FAULT, "^p0, got none; p1, got none; p2, got none; p3, got none; and 5 more$")


def test_a_python_that_the_project_does_not_work_with(tmp_path: Path) -> None:
    project = asked(tmp_path, python=">=3.99")
    unwell(versions.python(project, "3.11.7"), "python", FAULT, r"^3\.11\.7, and the project works with >=3\.99$")
    well(versions.python(asked(tmp_path), "3.11.7"))
    well(versions.python(asked(tmp_path), "3.15.0rc1"))


def test_what_is_asked_for_is_read_from_the_installed_package_where_there_is_no_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package(tmp_path / "site", "digitsearch", "9", "never-heard-of>=1", "pytest ; extra == 'dev'")
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = by_code(versions.findings(tmp_path))
    unwell(found["packages"], "packages", FAULT, "^never-heard-of>=1, got none$")
    well(found["pins"], "no requirements.txt")


@pytest.mark.parametrize(
    ("source", "cuda"),
    [
        ("from typing import Optional\n__version__ = '2.15.0+cu132'\ncuda: Optional[str] = '13.2'\n", (13, 2)),
        ("__version__ = '2.15.0+cpu'\ncuda: Optional[str] = None\nhip: Optional[str] = None\n", ()),
        ("", None),
    ],
)
def test_the_cuda_of_torch_is_read_from_its_source(source: str, cuda: object, tmp_path: Path) -> None:
    package(tmp_path, "torch", "2.15.0", source=source)
    assert versions.cuda_of_torch(versions.Installed([str(tmp_path)])) == cuda


def test_the_cuda_of_the_installed_torch() -> None:
    said = torch.version.cuda
    assert versions.cuda_of_torch(versions.Installed()) == tuple(int(part) for part in said.split(".")) if said else ()


# The machine


def cgroup(folder: Path, names: tuple[str, str, str, str], total: str, used: int, kept: int) -> Path:
    for name, text in zip(names, (total, str(used), f"anon 1\n{names[3]} {kept}\n"), strict=False):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("names", machine._CGROUPS, ids=["second", "first"])
def test_a_container_with_little_memory(names: tuple[str, str, str, str], tmp_path: Path) -> None:
    here = machine.memory_here(cgroup(tmp_path, names, str(2 * 2**30), 3 * 2**29, 2**29))
    assert here == machine.Memory(2 * 2**30, 2**30)
    well(machine.memory(here, 1, {}))
    unwell(
        machine.memory(here, 4, {}),
        "memory",
        WARNING,
        r"^1\.0 of 2\.0 GiB used; .* 4 at once, one a core, take some 2\.2 GiB$",
    )
    full = machine.memory_here(cgroup(tmp_path, names, str(2 * 2**30), 2**31 - 10, 0))
    unwell(
        machine.memory(full, 1, {}),
        "memory",
        FAULT,
        r"^2\.0 of 2\.0 GiB used; Ray ends trials at 95%, and one takes some 0\.55 GiB$",
    )
    unwell(machine.memory(here, 1, {"RAY_memory_usage_threshold": "0.5"}), "memory", FAULT, "Ray ends trials at 50%")  # fmt: skip


def test_a_container_without_a_limit_has_the_machine_s_memory(tmp_path: Path) -> None:
    here = machine.memory_here(cgroup(tmp_path, machine._CGROUPS[0], "max", 1, 0))
    assert here.total == psutil.virtual_memory().total and 0 < here.used < here.total
    assert here.total == machine.memory_here(tmp_path / "nothing").total


def test_the_sizes_and_lengths_are_those_that_ray_itself_computes() -> None:
    from ray._private import utils

    free = utils.get_shared_memory_bytes()
    for available in (10**9, 20 * 10**9, 10**13):
        ours, rays = machine.object_store_bytes(available, free), utils.resolve_object_store_memory(available)
        assert ours == pytest.approx(rays, rel=0.05), "Ray takes another share of the memory"  # others use /dev/shm too
    rest = len(os.fsencode(machine.longest_socket(Path("/"))))
    at_most = Path("/" + "x" * (machine._LONGEST_SOCKET - rest - 1))
    well(machine.socket_path(at_most), f"^up to {machine._LONGEST_SOCKET} bytes")
    utils.validate_socket_filepath(str(machine.longest_socket(at_most)))
    unwell(
        machine.socket_path(Path(f"{at_most}x")),
        "socket-path",
        FAULT,
        "^up to 108 bytes in /x+, and the system allows 107$",
    )
    with pytest.raises(OSError, match="AF_UNIX path length cannot exceed"):
        utils.validate_socket_filepath(str(machine.longest_socket(Path(f"{at_most}x"))))


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A small file system of its own in memory, with options of mount."""
    disks = []

    def mount(options: str) -> Path:
        disk = tmp_path / f"disk{len(disks)}"
        disk.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("only root may mount a small tmpfs")
        disks.append(disk)
        return disk

    yield mount
    for disk in disks:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_small_shared_memory_and_none(mounted: Callable[[str], Path], tmp_path: Path) -> None:
    shm = mounted("size=64m")
    unwell(
        machine.shared_memory(HERE, shm),
        "shared-memory",
        WARNING,
        r"^0\.1 GiB free in .*, and Ray's object store would take 4\.2$",
    )
    well(machine.shared_memory(machine.Memory(10**8, 0), shm))
    gone = machine.shared_memory(HERE, tmp_path / "gone")
    unwell(gone, "shared-memory", FAULT, "gone must be there for Ray to start, got: No such file or directory$")  # fmt: skip


@pytest.mark.parametrize(("limit", "state"), [(40, FAULT), (1024, WARNING), (4096, OK)], ids=lambda value: str(value))
def test_a_low_limit_of_open_files(limit: int, state: State, tmp_path: Path) -> None:
    typed = limited(limit, tmp_path)
    assert typed["state"] == state.value
    assert typed["found"] == f"{limit} files a process, and Ray wants 4096 at least"


def limited(limit: int, folder: Path) -> dict[str, Any]:
    """What the doctor, typed in a shell with such a limit, says of it."""
    command = f"ulimit -n {limit} && exec {sys.executable} -m search doctor --format json"
    typed = subprocess.run(
        ["bash", "-c", command], cwd=folder, env=environment(PYTHONPATH=str(ROOT)), capture_output=True, text=True
    )
    return next(record for record in json.loads(typed.stdout) if record["code"] == "descriptors")


def test_ray_raises_a_low_limit_where_it_may() -> None:
    well(machine.descriptors(1024, 8192), "^8192 files")
    well(machine.descriptors(256, -1), "^65536 files")
    unwell(machine.descriptors(256, 1024), "descriptors", WARNING, "^1024 files")
    unwell(machine.descriptors(40, 40), "descriptors", FAULT, "^40 files")


def test_a_port_that_somebody_else_holds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        port = there.getsockname()[1]
        me = f"{re.escape(psutil.Process().name())}, process {os.getpid()}"
        unwell(machine.ports({port: "jobs", 1: "x"}), "ports", WARNING, rf"^{port} \(jobs\) is held by {me}$")
    well(machine.ports({port: "jobs"}), f"^{port} are free$")


def test_rays_folder_that_cannot_be_made_and_one_with_a_long_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    deep = tmp_path / "file" / ("deep" * 30)
    found = by_code(machine.findings(environment(RAY_TMPDIR=str(deep))))
    unwell(found["temp"], "temp", FAULT, "must be a folder that can be made and written, got: Not a directory$")
    unwell(found["socket-path"], "socket-path", FAULT, r"^up to \d+ bytes in .*, and the system allows 107$")
    assert machine.ray_folder({"TMPDIR": "/a"}) == Path("/a/ray") and machine.ray_folder({}) == Path("/tmp/ray")


def test_a_disk_that_is_nearly_full(mounted: Callable[[str], Path]) -> None:
    disk = mounted("size=1m")
    well(machine.temp_space(disk / "ray"))
    unwell(output.space(disk / "runs"), "output-space", WARNING, r"^0\.0 GiB free for ")
    (disk / "filler").write_bytes(b"\0" * 1_000_000)
    unwell(
        machine.temp_space(disk / "ray"),
        "temp-space",
        WARNING,
        r"^9[6-9]% full, 0\.0 GiB free; Ray puts no objects there above 95%$",
    )


# GPUs

TABLE = "| NVIDIA-SMI 570.86.15              Driver Version: 570.86.15      CUDA Version: {cuda}     |"
GPUS = "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-1f0c)\nGPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-2a7d)\n"


class Smi:
    """A folder for PATH with an `nvidia-smi` in it; and one for PYTHONPATH with a torch of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def says(self, gpus: str = GPUS, cuda: str = "13.2", code: int = 0, torch: str = "2") -> dict[str, str]:
        program = self._folder / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(
            f'#!/bin/sh\n[ "$1" = -L ] && printf \'{gpus}\' || echo "{TABLE.format(cuda=cuda)}"\nexit {code}\n'
        )
        program.chmod(0o755)
        module = self._folder / "python" / "torch.py"
        module.parent.mkdir(exist_ok=True)
        module.write_text(
            f"class cuda:\n    init = staticmethod(lambda: None)\n    device_count = staticmethod(lambda: {torch})\n"
        )
        path = f"{program.parent}:{os.environ['PATH']}"
        clean = {name: value for name, value in environment().items() if name != "CUDA_VISIBLE_DEVICES"}
        return {**clean, "PATH": path, "PYTHONPATH": str(module.parent)}


@pytest.fixture
def smi(tmp_path: Path) -> Smi:
    return Smi(tmp_path)


@pytest.fixture
def for_cuda(tmp_path: Path) -> versions.Installed:
    package(tmp_path / "site", "torch", "2.15.0", source="__version__ = '2.15.0+cu132'\ncuda: Optional[str] = '13.2'\n")
    return versions.Installed([str(tmp_path / "site")])


def test_gpus_that_work(smi: Smi, for_cuda: versions.Installed) -> None:
    found = gpu.findings(smi.says(), for_cuda)
    assert [(f.code, f.state, f.found) for f in found] == [
        ("gpu", OK, "NVIDIA H100 80GB HBM3, NVIDIA H100 80GB HBM3"),
        ("gpu-driver", OK, "the driver knows CUDA 13.2, torch was built with 13.2"),
        ("gpu-hidden", OK, "CUDA_VISIBLE_DEVICES is not set"),
        ("gpu-torch", OK, "torch finds 2 of 2 visible"),
    ]


def test_no_driver_and_a_driver_without_a_gpu(smi: Smi, for_cuda: versions.Installed) -> None:
    assert {f.state for f in gpu.findings({"PATH": "/nowhere"}, for_cuda)} == {OK}
    found = gpu.findings(smi.says(gpus="No devices found.\n", code=6), for_cuda)
    assert [(f.state, f.found) for f in found] == [(OK, "the driver knows of no GPU")] * 4


def test_a_driver_that_does_not_answer(smi: Smi, for_cuda: versions.Installed) -> None:
    said = "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 570.86\n"
    found = gpu.findings(smi.says(gpus=said, code=18), for_cuda)
    unwell(found[0], "gpu", WARNING, "^nvidia-smi: Failed to initialize NVML: Driver/library version mismatch$")
    assert [f.state for f in found[1:]] == [OK] * 3 and found[3].found == "not looked at: see gpu"


def test_a_driver_that_is_too_old(smi: Smi, for_cuda: versions.Installed) -> None:
    found = gpu.findings(smi.says(cuda="12.8"), for_cuda)
    unwell(found[1], "gpu-driver", WARNING, r"^the driver knows CUDA 12\.8, torch was built with 13\.2$")
    well(gpu.findings(smi.says(cuda="13.0"), for_cuda)[1])  # what is older by the second number works


@pytest.mark.parametrize(
    ("said", "left"),
    [("", 0), ("-1", 0), ("2", 0), ("NoDevFiles", 0), ("0", 1), ("1,0", 2), ("0,7,1", 1), ("GPU-2a", 1), ("MIG-77", 1)],
)
def test_gpus_that_are_hidden(said: str, left: int, smi: Smi, for_cuda: versions.Installed) -> None:
    found = gpu.findings({**smi.says(torch=str(left)), "CUDA_VISIBLE_DEVICES": said}, for_cuda)
    if left:
        well(found[2], f"leaves {left} of 2$")
        well(found[3], f"^torch finds {left} of {left} visible$")
    else:
        unwell(found[2], "gpu-hidden", WARNING, f"^CUDA_VISIBLE_DEVICES='{said}' leaves 0 of 2$")


def test_a_torch_that_sees_no_gpu(smi: Smi, for_cuda: versions.Installed, tmp_path: Path) -> None:
    found = gpu.findings(smi.says(torch="1 / 0"), for_cuda)
    unwell(found[3], "gpu-torch", WARNING, "^2 visible, and torch says: ZeroDivisionError: division by zero$")
    found = gpu.findings(smi.says(torch="0"), for_cuda)
    unwell(found[3], "gpu-torch", WARNING, "^torch finds 0 of 2 visible$")
    package(tmp_path / "cpu", "torch", "2.15.0", source="__version__ = '2.15.0+cpu'\ncuda: Optional[str] = None\n")
    found = gpu.findings(smi.says(), versions.Installed([str(tmp_path / "cpu")]))
    unwell(found[3], "gpu-torch", WARNING, "^2 visible, and torch was built without CUDA$")


# Ray's clusters and their token


class Started:
    """A cluster of `ray start`, in a folder of its own, that is ended process by process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = environment(RAY_TMPDIR=str(folder), HOME=str(folder))
        program = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--disable-usage-stats"]
        options = ["--node-ip-address=127.0.0.1", "--port=0", "--num-cpus=1", "--include-dashboard=false"]
        subprocess.run([*program, *options], env=self.environment, check=True, capture_output=True)
        self.address = (folder / "ray" / "ray_current_cluster").read_text()

    def processes(self) -> dict[str, int]:
        """Its servers, by name."""
        return {Path(p.cmdline()[0]).name: p.pid for p in self._all() if Path(p.cmdline()[0]).name in clusters._SERVERS}

    def end(self) -> None:
        for process in self._all():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def _all(self) -> list[psutil.Process]:
        """Whatever was started in its folder; children of those end with them."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if any(f"{self.folder}/ray/session" in word for word in process.cmdline()):
                    found += [process, *process.children(recursive=True)]
        return found


@pytest.fixture(scope="module")
def started() -> Iterator[Started]:
    with tempfile.TemporaryDirectory(prefix="dr-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = Started(Path(folder))
        yield cluster
        cluster.end()


def looked_at(started: Started, address: str | None = None, **variables: str) -> dict[str, Finding]:
    folder = machine.ray_folder(started.environment)
    return by_code(clusters.findings(address, {**started.environment, **variables}, folder))


@pytest.mark.ray
def test_a_cluster_that_was_left_running(started: Started) -> None:
    servers = started.processes()
    assert set(servers) == {"raylet", "gcs_server"}
    found = looked_at(started)
    for name, pid in servers.items():
        unwell(found["leftover"], "leftover", WARNING, rf"at {started.address} \(process [^)]*\b{name} {pid}\b")
    well(found["stale"], f"ray_current_cluster names {started.address}, which runs$")
    well(found["address"], "^none is named")
    port = int(started.address.rpartition(":")[2])
    well(machine.ports({port: "joining"}), rf"^{port} \(joining\) is held by Ray, process {servers['gcs_server']}$")


@pytest.mark.ray
def test_a_cluster_that_is_joined_on_purpose_is_none_that_was_left(started: Started) -> None:
    for address, variables in ((started.address, {}), (None, {"RAY_ADDRESS": started.address})):
        found = looked_at(started, address, **variables)
        well(found["address"], f"^{started.address} answers$")
        assert started.address not in found["leftover"].found
    found = looked_at(started, "auto")
    well(found["address"], "^'auto', and one runs at ")
    assert started.address not in found["leftover"].found


@pytest.mark.ray
def test_the_socket_of_a_real_cluster_has_the_length_that_was_foretold(started: Started) -> None:
    (real,) = (started.folder / "ray").glob("session_2*/sockets/plasma_store")
    pid = real.parts[-3].rpartition("_")[2]
    assert len(str(real)) - len(pid) == len(str(machine.longest_socket(started.folder / "ray"))) - 7


@pytest.mark.ray
@pytest.mark.usefixtures("ray_cluster")
def test_the_private_cluster_of_a_living_program_is_not_left() -> None:
    own = [cluster for cluster in clusters.clusters() if cluster.session.endswith(f"_{os.getpid()}")]
    assert [cluster.driven for cluster in own] == [True]
    unwell(clusters.reachable("auto", own, None), "address", FAULT, "was started on this machine, got none")
    well(clusters.leftover(own, None, None), "^none, beside 1 of searches or programs that run$")
    unwell(clusters.leftover(own, own[0].address, None), "leftover", WARNING, f"at {own[0].address}")


@pytest.mark.ray
def test_the_note_of_a_cluster_that_is_gone(started: Started) -> None:
    servers = started.processes()
    started.end()
    psutil.wait_procs([psutil.Process(pid) for pid in servers.values() if psutil.pid_exists(pid)], timeout=10)
    found = looked_at(started)
    unwell(found["stale"], "stale", WARNING, f"ray_current_cluster names {started.address}, where nobody listens$")
    assert started.address not in found["leftover"].found
    named = looked_at(started, RAY_ADDRESS=started.address)["address"]
    unwell(named, "address", FAULT, f"^a Ray cluster must be reachable at '{started.address}', got: ")


def test_addresses_where_no_cluster_answers() -> None:
    for named, found in {
        "auto": "^'auto' needs a cluster that was started on this machine, got none$",
        "127.0.0.1:1": "^a Ray cluster must be reachable at '127.0.0.1:1', got: .*Connection refused",
        "ray://127.0.0.1:1": "^a cluster's address must be host:port of its head",
        "http://127.0.0.1:1": "^a Ray cluster must be reachable at '127.0.0.1:1', got: .*Connection refused",
        "http://127.0.0.1:none": "^a cluster's address must be host:port or http://host:port, got 'http://127.0.0.1:none': Port",
        "head": "^a cluster's address must be host:port or http://host:port, got 'head'$",
        "http://": "^a cluster's address must be host:port",
    }.items():
        unwell(clusters.reachable(named, [], None), "address", FAULT, found)
    assert clusters.named_address("local", {"RAY_ADDRESS": "x"}) is None
    assert clusters.named_address(None, {"RAY_API_SERVER_ADDRESS": "http://x:8265"}) == "http://x:8265"


@pytest.fixture
def web() -> Iterator[str]:
    """A web server on loopback that is no cluster's."""

    class Nothing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Nothing) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_web_server_that_is_no_cluster(web: str) -> None:
    unwell(clusters.reachable(web, [], None), "address", FAULT, f"^the cluster at '{web}' could not do that: ")


SECRET = "d0ntT3llAnyb0dy"


def token_findings(home: Path, named: str | None = None, **variables: str) -> list[Finding]:
    token = token_of({"HOME": str(home), **variables})
    found = [clusters.token_state(token, named), clusters.token_open(token)]
    assert SECRET not in repr((token, found))
    return found


def token_file(path: Path, mode: int = 0o600) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(SECRET)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({"RAY_AUTH_MODE": "tokn"}, "^RAY_AUTH_MODE must be token or disabled, got 'tokn', which Ray takes for disabled$"),
        ({"RAY_AUTH_MODE": "token"}, "^RAY_AUTH_MODE is token, no token, and a cluster is named$"),
        ({"RAY_AUTH_TOKEN_PATH": "/nowhere/token"}, "^/nowhere/token must hold the token, got: No such file or directory$"),
        ({"RAY_AUTH_TOKEN_PATH": "/dev/null"}, "^/dev/null must hold the token, got: it is empty$"),
    ],
)  # fmt: skip
def test_a_token_that_is_not_there(variables: dict[str, str], found: str, tmp_path: Path) -> None:
    finding, _ = token_findings(tmp_path, "head:6379", **variables)
    unwell(finding, "token", FAULT, found)


def test_a_token_that_is_there(tmp_path: Path) -> None:
    for finding in (*token_findings(tmp_path), *token_findings(tmp_path, RAY_AUTH_MODE="token")):
        well(finding)  # the next private cluster makes one
    file = token_file(tmp_path / ".ray" / "auth_token")
    for variables in ({}, {"RAY_AUTH_TOKEN_PATH": str(file), "HOME": "/nowhere"}):
        finding, is_open = token_findings(tmp_path, "head:6379", RAY_AUTH_MODE="Token", **variables)
        well(finding, f"^RAY_AUTH_MODE is token, a token is in {file}$")
        well(is_open, f"^{file} has mode 600$")
    finding, is_open = token_findings(tmp_path, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=SECRET)
    well(finding, "^RAY_AUTH_MODE is token, a token is in RAY_AUTH_TOKEN$")
    well(is_open, "^no file with a token$")


def test_a_token_that_is_sent_where_it_is_asked_for(tmp_path: Path) -> None:
    file = token_file(tmp_path / ".ray" / "auth_token")
    finding, _ = token_findings(tmp_path, "head:6379")
    said = f"RAY_AUTH_MODE is not set, a token is in {file}, which a cluster that asks for one is sent"
    well(finding, f"^{re.escape(said)}$")


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_token_that_others_may_read(mode: int, tmp_path: Path) -> None:
    file = token_file(tmp_path / ".ray" / "auth_token", mode)
    unwell(token_findings(tmp_path)[1], "token-open", WARNING, f"^{file} has mode {mode:o}$")
    assert stat.S_IMODE(file.stat().st_mode) == mode, "the doctor changes nothing"


def test_the_token_is_never_printed(type_in: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = token_file(tmp_path / "token", 0o644)
    for name, value in {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(file)}.items():
        monkeypatch.setenv(name, value)
    typed = type_in("doctor", "--format", "csv")
    assert f"token-open,warning,{file} has mode 644,chmod 600 the file named\n" in typed.stdout
    assert SECRET not in typed.stdout + typed.stderr


# The output


def tried(folder: Path) -> Finding:
    before = set(os.listdir(folder)) if folder.is_dir() else None
    finding = output.works(folder, output.try_folder(folder))
    assert before is None or set(os.listdir(folder)) == before, "the doctor left something behind"
    return finding


def test_an_output_that_works_and_is_not_made(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "not" / "yet"):
        well(tried(folder))
    assert not list(tmp_path.iterdir())


def test_an_output_that_cannot_be_written(mounted: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    unwell(tried(tmp_path / "file" / "runs"), "output", FAULT, "write: Not a directory$")
    unwell(tried(tmp_path / "link"), "output", FAULT, "write: No such file or directory$")
    unwell(tried(mounted("ro,size=1m")), "output", FAULT, "write: Read-only file system$")
    unwell(tried(mounted("nr_inodes=2,size=1m")), "output", FAULT, "write: No space left on device$")
    full = mounted("size=64k")
    with (full / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"\0" * 4096)
    unwell(tried(full), "output", FAULT, "write: No space left on device$")


def test_an_output_where_nothing_can_be_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    if subprocess.run(["chattr", "+a", str(folder)], capture_output=True).returncode:
        pytest.skip("only root may have a folder that is added to alone, and not on every file system")
    try:
        finding = output.works(folder, output.try_folder(folder))
    finally:
        subprocess.run(["chattr", "-a", str(folder)], check=True)
    unwell(finding, "output", FAULT, "delete: Operation not permitted$")


@pytest.mark.parametrize("step", ["rename", "read", "list", "delete", "lock"])
def test_each_step_that_fails_is_named(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(95, "Operation not supported")

    names = {"rename": (Path, "rename"), "read": (Path, "read_bytes"), "list": (Path, "iterdir")}
    others: Mapping[str, tuple[Any, str]] = {"delete": (output.shutil, "rmtree"), "lock": (output.fcntl, "flock")}
    with monkeypatch.context() as patched:
        patched.setattr(*{**names, **others}[step], refused)
        trouble = output.try_folder(tmp_path).trouble
    assert trouble == f"{step}: Operation not supported"


def test_clocks_that_differ(tmp_path: Path, web: str) -> None:
    for late_s, said in ((-3600, "ahead of"), (3600, "behind")):

        def now(late_s: float = late_s) -> float:
            return time.time() - late_s

        found = by_code(output.findings(tmp_path, web, now))
        there = rf"3[56]\d\d s {said} that of the "
        unwell(found["clock"], "clock", WARNING, rf"^this machine's clock is {there}output, {there}cluster$")
    well(by_code(output.findings(tmp_path, web))["clock"], "^as that of the output and of the cluster$")
    well(by_code(output.findings(tmp_path, "127.0.0.1:1"))["clock"], "^as that of the output$")
    assert output.dashboard_ahead_s("http://127.0.0.1:1") is None


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    pytest.importorskip("moto", reason="moto's S3 server is needed: pip install 'moto[s3]' flask flask-cors")
    server = Server(0.0)
    server.make_bucket()
    before = dict(os.environ)
    os.environ.update(server.environment)
    storage._file_system.cache_clear()
    yield server
    os.environ.clear()
    os.environ.update(before)
    storage._file_system.cache_clear()
    server.stop()


def test_an_output_in_shared_storage(server: Server) -> None:
    place = Storage("s3://bucket/doctored/runs")
    found = by_code(output.findings(place, None))
    well(found["output"], "^s3://bucket/doctored/runs can be written, read, listed and deleted$")
    well(found["clock"], "^as that of the output$")
    marks = [("doctored", None), ("doctored/runs", None)]  # of the folders
    assert sorted(Storage("s3://bucket")._listed("")) == marks, "the doctor left something behind"
    late = by_code(output.findings(place, None, lambda: time.time() - 600))
    unwell(late["clock"], "clock", WARNING, r"^this machine's clock is (59\d|60\d) s behind that of the output$")


def test_shared_storage_that_refuses_and_one_that_is_not_there(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = output.works(Storage("s3://no-bucket/runs"), output.try_storage(Storage("s3://no-bucket/runs")))
    unwell(nowhere, "output", FAULT, r"^s3://no-bucket/runs/\S+: file can't be written: .*NO_SUCH_BUCKET")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(output, "_PATIENCE_S", 0.5)
    storage._file_system.cache_clear()
    begun = time.monotonic()
    gone = output.try_storage(Storage("s3://bucket/runs")).trouble
    assert gone and "can't be written" in gone and time.monotonic() - begun < 30
    storage._file_system.cache_clear()


# The table of codes


def test_every_code_is_told_of_and_every_one_of_them_is_simulated_here() -> None:
    for code, check in CHECKS.items():
        assert code == check.code and re.fullmatch(r"[a-z]+(-[a-z]+)*", code)
        assert check.holds.endswith(".") and check.to_do and not check.to_do.endswith(".")
    calls = [node for node in ast.walk(ast.parse(Path(__file__).read_text())) if isinstance(node, ast.Call)]
    simulated = {call.args[1].value for call in calls if getattr(call.func, "id", "") == "unwell"}
    assert simulated == set(CHECKS)
