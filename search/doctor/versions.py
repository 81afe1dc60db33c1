"""Python, the packages, and whether they fit: read from their metadata, so that none has to be imported."""

import platform
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from importlib.metadata import PackageNotFoundError as NotInstalled
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion

from search.doctor.finding import Finding, fault, ok, some, warning

_US = "digitsearch"
# What a search is named by: shown where all is well.
_SHOWN = ("torch", "torchvision", "ray", "optuna")


@dataclass(frozen=True)
class Project:
    """What the project asks for; from pyproject.toml where that is, else from what is installed.

    Args:
        python: Which versions.
        requirements: The packages, without those for developers.
    """

    python: SpecifierSet
    requirements: tuple[Requirement, ...]


class Installed:
    """The packages on a path, by name; the first of a name counts, as for an import.

    Args:
        path: Folders to look in; None is Python's own.
    """

    def __init__(self, path: Sequence[str] | None = None) -> None:
        self._path = list(sys.path if path is None else path)
        self._found: dict[str, Distribution | None] = {}

    def get(self, name: str) -> Distribution | None:
        """A package's metadata, or None where it is not installed."""
        if name not in self._found:
            self._found[name] = next(iter(Distribution.discover(name=name, path=self._path)), None)
        return self._found[name]

    def version(self, name: str) -> str | None:
        """A package's version, or None where it is not installed, or only the rest of it is there."""
        found = self.get(name)
        return found.metadata["Version"] if found and "Version" in found.metadata else None

    def source(self, name: str, file: str) -> str:
        """The text of one of a package's files, or nothing."""
        found = self.get(name)
        try:
            return Path(str(found.locate_file(file))).read_text(encoding="utf-8") if found else ""
        except OSError:
            return ""


def findings(root: Path, path: Sequence[str] | None = None) -> list[Finding]:
    """All of this page.

    Args:
        root: Where pyproject.toml and requirements.txt lie, if they do.
        path: As for `Installed`.
    """
    asked, there = project(root), Installed(path)
    return [
        python(asked, platform.python_version()),
        packages(asked, there),
        pairs(asked, there),
        torch_build(there),
        pins(root / "requirements.txt", there),
    ]


def project(root: Path) -> Project | None:
    """What the project asks for, or None where nothing says so."""
    try:
        table = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    except (OSError, KeyError, tomllib.TOMLDecodeError):
        table = {}
    if table.get("name") == _US:
        return Project(SpecifierSet(table["requires-python"]), tuple(_applying(table["dependencies"])))
    try:
        ours = distribution(_US)
    except NotInstalled:
        return None
    pythons = ours.metadata.get_all("Requires-Python") or []
    return Project(SpecifierSet(",".join(pythons)), tuple(_applying(ours.requires or [])))


def python(asked: Project | None, version: str) -> Finding:
    """Whether this Python is one that the project works with."""
    if asked is None:
        return warning("python", f"{version}; nothing here says which one is needed")
    found = f"{version}, and the project works with {asked.python}"
    return ok("python", found) if asked.python.contains(version, prereleases=True) else fault("python", found)


def packages(asked: Project | None, there: Installed) -> Finding:
    """Whether what the project itself asks for is there."""
    if asked is None:
        return warning("packages", f"neither pyproject.toml nor the metadata of {_US} is here to say which are needed")
    missed = [_missed(required, there) for required in asked.requirements if not _is_met(required, there)]
    if missed:
        return fault("packages", some(missed))
    shown = ", ".join(f"{name} {there.version(name)}" for name in _SHOWN if there.get(name))
    return ok("packages", f"all {len(asked.requirements)}, with {shown}")


def pairs(asked: Project | None, there: Installed) -> Finding:
    """Whether the packages get from one another what they ask for, down to the last one needed."""
    needs = list(_needs(asked.requirements if asked else (), there))
    misfits = [f"{who} needs {_missed(need, there)}" for who, need in needs if not _is_met(need, there)]
    if misfits:
        return fault("pairs", some(list(dict.fromkeys(misfits))))
    return ok("pairs", f"{len(needs)} needs of packages of one another are met")


def torch_build(there: Installed) -> Finding:
    """Whether torch and torchvision are builds for the same device."""
    builds = {name: _build(name, there) for name in ("torch", "torchvision")}
    said = " beside ".join(f"{name} built for {build or 'an unknown device'}" for name, build in builds.items())
    known = {build for build in builds.values() if build}
    return fault("torch-build", said) if len(known) > 1 else ok("torch-build", said)


def pins(file: Path, there: Installed) -> Finding:
    """Whether the versions are those that were pinned."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ok("pins", "there is no requirements.txt here to compare with")
    pinned = [required for required in _applying(lines) if there.get(required.name)]
    others = [_missed(required, there) for required in pinned if not _is_met(required, there)]
    if others:
        return warning("pins", some(others))
    return ok("pins", f"{len(pinned)} packages as pinned")


def cuda_of_torch(there: Installed) -> tuple[int, ...] | None:
    """The version of CUDA that torch was built with, like (13, 2); () for none, None where it does not say."""
    said = re.search(r"^cuda\b.*?= *(?:None|['\"]([\d.]+)['\"])", there.source("torch", "torch/version.py"), re.M)
    return None if said is None else tuple(int(part) for part in (said.group(1) or "").split(".") if part)


def _needs(asked: Iterable[Requirement], there: Installed) -> Iterator[tuple[str, Requirement]]:
    """Each package that is needed, by name and version, with each of what it asks for."""
    waiting, seen = list(asked), set()
    while waiting:
        required = waiting.pop()
        found, key = there.get(required.name), (required.name, frozenset(required.extras))
        if found is None or key in seen:
            continue
        seen.add(key)
        own = list(_applying(found.requires or [], required.extras))
        yield from ((f"{required.name} {there.version(required.name)}", need) for need in own)
        waiting += own


def _applying(lines: Iterable[str], extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """The requirements that hold on this machine."""
    for line in lines:
        try:
            required = Requirement(line)
        except InvalidRequirement:  # a comment, an option; or what an old tool wrote
            continue
        if required.marker is None or any(required.marker.evaluate({"extra": extra}) for extra in (*extras, "")):
            yield required


def _is_met(required: Requirement, there: Installed) -> bool:
    version = there.version(required.name)
    try:
        return version is not None and required.specifier.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _missed(required: Requirement, there: Installed) -> str:
    nothing = "what is left of it" if there.get(required.name) else "none"
    return f"{required.name}{required.specifier}, got {there.version(required.name) or nothing}"


def _build(name: str, there: Installed) -> str | None:
    """What a build is for, as its version ends: cpu, cu132. Wheels of an index say it in their source alone."""
    version = re.search(r"^__version__.*?['\"](.+?)['\"]", there.source(name, f"{name}/version.py"), re.M)
    text = version.group(1) if version else there.version(name) or ""
    return text.partition("+")[2] or None
