"""requirements.txt installs wherever the project says that it runs, not on the machine alone that resolved it."""

import re
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LINES = (ROOT / "requirements.txt").read_text().splitlines()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAC = {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64", "os_name": "posix"}
OLDEST = {"python_version": "3.11", "python_full_version": "3.11.0", "implementation_version": "3.11.0"}


def installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:  # another system's
        return None


def pinned(environment: dict[str, str]) -> dict[str, str]:
    """The version of each package that pip would install there."""
    required = [Requirement(line) for line in LINES]
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in required
        if pin.marker is None or pin.marker.evaluate({**default_environment(), **environment})
    }


def needed(environment: dict[str, str]) -> set[str]:
    """What the project asks for there, and what that asks for, by the metadata of what is installed here."""
    waiting = [Requirement(line) for line in (*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"])]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        required = waiting.pop()
        key = (canonicalize_name(required.name), frozenset(required.extras))
        if key in seen:
            continue
        seen.add(key)
        there = installed(required.name)
        for need in map(Requirement, (there and there.requires) or []):
            where = [{**default_environment(), **environment, "extra": extra} for extra in (*required.extras, "")]
            if need.marker is None or any(need.marker.evaluate(place) for place in where):
                waiting.append(need)
    return {name for name, _ in seen}


def test_no_address_of_an_index_and_no_path_of_a_machine() -> None:
    assert LINES and all(re.match(r"^[a-z0-9-]+==[\w.]+( ; [\w.'<>=!() ]+)?$", line) for line in LINES)


@pytest.mark.parametrize("environment", [{}, MAC], ids=["here", "a Mac"])
def test_what_is_pinned_is_what_is_needed(environment: dict[str, str]) -> None:
    """Not more either: what Linux alone needs may have no wheel elsewhere, and the set-up would break off."""
    assert pinned(environment).keys() == needed(environment)


def test_the_oldest_python_that_the_project_allows_is_enough() -> None:
    """Debian 12's is 3.11.2, and a package may leave it behind with its next version."""
    assert OLDEST["python_full_version"] in SpecifierSet(PROJECT["requires-python"])
    pins, checked, newer = pinned(OLDEST), 0, []
    for name, version in pins.items():
        there = installed(name)
        if there is not None and there.version == version:
            checked += 1
            if OLDEST["python_full_version"] not in SpecifierSet(there.metadata.get("Requires-Python") or ""):
                newer.append(f"{name} {version}: {there.metadata['Requires-Python']}")
    assert not newer
    assert checked > len(pins) / 2, "nearly nothing could be looked at"
