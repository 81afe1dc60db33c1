"""What the doctor looks at, each by its code, and what it finds there."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """How what was looked at is."""

    ok = "ok"
    warning = "warning"  # a search runs, but slower, or otherwise than is meant
    fault = "fault"  # a search does not run, or breaks off


@dataclass(frozen=True)
class Check:
    """One thing that is looked at.

    Args:
        code: Its name, the same in every version.
        holds: What must be so.
        to_do: What to do where it is not.
    """

    code: str
    holds: str
    to_do: str


_INSTALL = "python -m pip install --requirement requirements.txt"

CHECKS: dict[str, Check] = {
    check.code: check
    for check in (
        Check(
            "python",
            "Python is one that the project works with.",
            "install one that fits, and make the environment anew with it: make clean, then make search PYTHON=…",
        ),
        Check(
            "packages",
            "Every package that the project asks for is installed, in a version that it works with.",
            _INSTALL,
        ),
        Check(
            "pairs",
            "Installed packages fit one another, as their own metadata asks: torchvision's torch, optuna-dashboard's "
            "Optuna, and whatever else the project needs.",
            f"install what belongs together at once: {_INSTALL}",
        ),
        Check(
            "torch-build",
            "torch and torchvision are built for the same device: for the CPU, or for one version of CUDA.",
            "take both from one index: python -m pip install --force-reinstall torch torchvision, with the same "
            "--index-url if there is one",
        ),
        Check(
            "pins",
            "Installed versions are those of requirements.txt, which the tests were run with.",
            f"{_INSTALL}; or leave it, if you meant it",
        ),
        Check(
            "memory",
            "There is memory for a trial on each core; Ray ends trials when a machine or container is nearly full.",
            "end what needs it, or try fewer at once: --set resources.concurrent=1",
        ),
        Check(
            "shared-memory",
            "Ray's object store fits into /dev/shm, where every trial reads the data without a copy.",
            "delete what lies in /dev/shm, or enlarge it: docker run --shm-size=4g, or on Kubernetes a volume "
            "emptyDir with medium Memory at /dev/shm",
        ),
        Check(
            "descriptors",
            "Processes may open as many files as Ray's connections need.",
            "ulimit -n 8192, in the shell that starts the search; a hard limit is raised in /etc/security/limits.conf, "
            "or with docker run --ulimit nofile=8192",
        ),
        Check(
            "ports",
            "The ports that `ray start --head` takes on this machine are free, or are Ray's already.",
            "end who holds them, or start the cluster with others: ray start --head --port, --dashboard-port, "
            "--dashboard-agent-listen-port",
        ),
        Check(
            "temp",
            "Ray's temporary folder (RAY_TMPDIR, else TMPDIR, else /tmp) can be written.",
            "set RAY_TMPDIR to a folder that can be, with a short path",
        ),
        Check(
            "temp-space",
            "The disk of Ray's temporary folder is not so full that Ray puts no more objects there.",
            "delete old sessions in that folder (session_…), or set RAY_TMPDIR to a folder on another disk",
        ),
        Check(
            "socket-path",
            "The paths of Ray's sockets, below its temporary folder, are no longer than the system allows.",
            "set RAY_TMPDIR to a folder with a shorter path, like /tmp",
        ),
        Check(
            "gpu",
            "NVIDIA's driver answers, where there is one.",
            "run `nvidia-smi`: after an update of the driver the machine must start again, and a container needs "
            "docker run --gpus all",
        ),
        Check(
            "gpu-driver",
            "NVIDIA's driver is new enough for the CUDA that torch was built with.",
            "update the driver, or install a torch and a torchvision that were built for its CUDA",
        ),
        Check(
            "gpu-hidden",
            "CUDA_VISIBLE_DEVICES does not hide every GPU.",
            "unset CUDA_VISIBLE_DEVICES, or name GPUs that are there",
        ),
        Check(
            "gpu-torch",
            "torch can use the GPUs that are visible.",
            "install torch and torchvision built for CUDA, from requirements.txt; if they are, see what "
            '`python -c "import torch; torch.cuda.init()"` says',
        ),
        Check(
            "address",
            "Where a Ray cluster is named (--address, RAY_ADDRESS, RAY_API_SERVER_ADDRESS), one answers there, with "
            "this version of Ray.",
            "name one that runs; or leave --address out and unset the variable, to search on this machine",
        ),
        Check(
            "leftover",
            "No Ray cluster runs on this machine that nobody named: ray.init() would join it, and it takes memory.",
            "end it: kill the processes named (`ray stop` ends every cluster of this machine); or join it on purpose, "
            "with --address",
        ),
        Check(
            "stale",
            "Ray has no note of a cluster that is gone: ray.init() would wait for it for minutes.",
            "delete the file named",
        ),
        Check(
            "token",
            "Ray's token is where RAY_AUTH_MODE, RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH and ~/.ray/auth_token say.",
            "set RAY_AUTH_MODE=token, and have the cluster's token in ~/.ray/auth_token, or in the file that "
            "RAY_AUTH_TOKEN_PATH names",
        ),
        Check(
            "token-open",
            "Nobody else on this machine may read the token's file: whoever has it can run anything on the cluster.",
            "chmod 600 the file named",
        ),
        Check(
            "output",
            "A search can write, lock, read, rename, list and delete files at its output.",
            "make it writable, on a file system that does all of these, or choose another: --set output=PLACE; for "
            "shared storage see who may write there, and AWS_ENDPOINT_URL and the like",
        ),
        Check(
            "output-space",
            "There is room for checkpoints and tables on the disk of the output.",
            "delete runs that nobody needs, keep fewer checkpoints (--set checkpoints.keep_best=1), or choose another "
            "disk: --set output=PLACE",
        ),
        Check(
            "clock",
            "This machine's clock agrees with those of the output and of the cluster.",
            "have the clocks set by NTP: timedatectl set-ntp true",
        ),
    )
}


@dataclass(frozen=True)
class Finding:
    """What was found at one check.

    Args:
        code: Of the check.
        state: How it is.
        found: What is there, with its figures; never a secret.
    """

    code: str
    state: State
    found: str

    def __post_init__(self) -> None:
        assert self.code in CHECKS

    @property
    def to_do(self) -> str | None:
        """What to do, unless it is as it must be."""
        return None if self.state is State.ok else CHECKS[self.code].to_do


def ok(code: str, found: str) -> Finding:
    """It is as it must be."""
    return Finding(code, State.ok, found)


def warning(code: str, found: str) -> Finding:
    """A search runs with it, but not as well."""
    return Finding(code, State.warning, found)


def fault(code: str, found: str) -> Finding:
    """No search runs with it."""
    return Finding(code, State.fault, found)


_MOST_LISTED = 4


def some(names: Sequence[str]) -> str:
    """The first few of a list, and how many more there are."""
    more = len(names) - _MOST_LISTED
    return "; ".join(names[:_MOST_LISTED]) + (f"; and {more} more" if more > 0 else "")
