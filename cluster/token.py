"""The token that a Ray cluster may ask for: where ours lies, and that it is sent to a cluster that asks for one.

The token itself is Ray's own affair, and nothing here looks at it.
"""

import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import ClusterError
from cluster.ray_internals import read_variables, refuses

_MODE, _TOKEN, _PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"


@dataclass(frozen=True)
class Token:
    """Where Ray would take its token from.

    Args:
        mode: RAY_AUTH_MODE.
        source: The variable or the file that has it; None for neither.
        file: The file, if it is one.
        trouble: Why it can't be had from there.
    """

    mode: str | None
    source: str | None = None
    file: Path | None = None
    trouble: str | None = None


def token(environment: Mapping[str, str]) -> Token:
    """Where the token would come from: the variable, else the file that another one names, else the usual file."""
    mode = environment.get(_MODE)
    if environment.get(_TOKEN):
        return Token(mode, _TOKEN)
    said = environment.get(_PATH)
    file = Path(said) if said else Path(environment.get("HOME") or Path.home()) / ".ray" / "auth_token"
    try:
        if file.stat().st_size and os.access(file, os.R_OK):
            return Token(mode, str(file), file)
        trouble = "it is empty" if not file.stat().st_size else "it can't be read"
    except OSError as err:
        if not said:
            return Token(mode)
        trouble = err.strerror or str(err)
    return Token(mode, trouble=f"{file} must hold the token, got: {trouble}")


def have_one() -> None:
    """Have a token for a cluster of our own, at home, where Ray looks for one.

    It would write one itself, for everybody to read, and not start where it can't (2.60).
    """
    is_given = any(os.environ.get(name) for name in (_TOKEN, _PATH))
    if is_given or os.environ[_MODE] != "token":
        return
    new = secrets.token_hex(32)
    try:
        file = Path.home() / ".ray" / "auth_token"
        if file.exists():
            return
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent) as written:  # for this user alone
            written.write(new)
            written.flush()
            with suppress(FileExistsError):  # of another search that starts
                os.link(written.name, file)
    except (OSError, RuntimeError):  # as in a container whose user is a number, without a home
        os.environ[_TOKEN] = new


def send_where_asked(address: str) -> None:
    """Have Ray send the token to a cluster that asks for one.

    Without it, or with another, Ray itself would go on trying for twenty seconds, and say nothing of a token (2.60).

    Args:
        address: Of its head, host:port, where somebody listens.

    Raises:
        ClusterError: It asks for one, and none is to be sent, or there is none, or another.
    """
    if refuses(address) and not (send() and not refuses(address)):
        raise ClusterError(must_be_given(address))


def send() -> bool:
    """Have Ray send the token with all it asks from now on, if there is one and RAY_AUTH_MODE says nothing."""
    if os.environ.get(_MODE) or not token(os.environ).source:
        return False
    os.environ[_MODE] = "token"
    read_variables()
    return True


def must_be_given(address: str) -> str:
    """The message of a cluster that was not given what it asks for."""
    here = token(os.environ)
    if here.mode and here.mode.lower() != "token":
        found = f"{_MODE}={here.mode}, which sends none; unset it"
    else:
        found = f"that in {here.source}, which it refused" if here.source else here.trouble or "none"
    return (
        f"the cluster at {address!r} must be given its token, got {found}; have the one of the cluster in "
        f"~/.ray/auth_token, or in the file that {_PATH} names"
    )
