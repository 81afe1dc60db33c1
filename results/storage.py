"""Shared storage: a folder in a bucket, through pyarrow's file systems. Every call is tried again until it works."""

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar, cast

from results.errors import RunError, StorageError

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

_SCHEMES = ("s3", "gs", "az")
# An outage of a minute is sat out. Within it the libraries below try for themselves too, some seconds each time.
_PATIENCE_S = 60.0
_MOST_PAUSE_S = 5.0
_AT_ONCE = 8
# What no waiting mends, as S3, Google's storage and Azure's say it.
_FOR_GOOD = re.compile(
    r"^(ACCESS_DENIED|NO_SUCH_BUCKET|INVALID_ACCESS_KEY|SIGNATURE)|"
    r"InvalidBucketName|PERMISSION_DENIED|HTTP status 40[0134]"
)
_FOR_A_WHILE = re.compile(r"^REQUEST_TIMEOUT")
# A name that nobody knows is a wrong one, unless it has been known before.
_UNKNOWN_HOST = "resolve host"
_answered: set[str] = set()

Answer = TypeVar("Answer")


class Storage:
    """A folder in shared storage, and what lies in it by its path there.

    Who may read and write is the providers' own environment variables and files: AWS_ACCESS_KEY_ID and the like;
    AWS_ENDPOINT_URL for another server that speaks S3; AZURE_STORAGE_ACCOUNT. No file is ever seen half written.

    Args:
        address: s3://bucket/prefix, gs://bucket/prefix or az://container/prefix.
        patience_s: For how long what fails is tried again; None is a minute.

    Raises:
        RunError: It is no such address.
        StorageError: By its methods, for what that did not mend.
    """

    def __init__(self, address: str, *, patience_s: float | None = None) -> None:
        scheme, sign, rest = address.partition("://")
        bucket, _, prefix = rest.rstrip("/").partition("/")
        if scheme not in _SCHEMES or not sign or not bucket or re.search(r"[@?#]|//|\.\.", rest):
            shown = f"{scheme}://…" if re.search(r"[@?]", rest) else address  # it may hold a password
            raise RunError(
                f"shared storage must be named like s3://bucket/prefix, gs://… or az://…, got {shown!r}; "
                "keys and servers come from the environment"
            )
        self.scheme = scheme
        self._root = f"{bucket}/{prefix}".rstrip("/")
        self._patience_s = patience_s

    def __str__(self) -> str:
        return f"{self.scheme}://{self._root}"

    def __truediv__(self, path: str) -> "Storage":
        return Storage(f"{self}/{path}", patience_s=self._patience_s)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Storage) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def read(self, path: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: There is none.
        """

        def once() -> bytes:
            with self._files.open_input_stream(self._at(path)) as stream:
                content = bytes(stream.read())
            # pyarrow asks for the size first and then for so many bytes. Of a file that was replaced between the two
            # it gives a part, or the whole and zeros after it.
            if self._files.get_file_info(self._at(path)).size != len(content):
                raise OSError("it is replaced while it is read")
            return content

        return self._tried(f"{path} can't be read", once)

    def write(self, path: str, content: bytes) -> None:
        """Write a file; the one that was there is replaced."""

        def once() -> None:
            with self._files.open_output_stream(self._at(path)) as stream:
                stream.write(content)

        self._tried(f"{path} can't be written", once)

    def written_at(self, path: str) -> datetime:
        """When a file was written, by the storage's clock.

        Raises:
            FileNotFoundError: There is none.
        """

        def once() -> datetime:
            info = self._files.get_file_info(self._at(path))
            if info.mtime is None:
                raise FileNotFoundError(f"{self}/{path}")
            return cast(datetime, info.mtime)

        return self._tried(f"{path} can't be looked at", once)

    def names(self, path: str = "") -> list[str]:
        """The paths of all files below a folder, in order; none if there is no such folder."""
        return sorted(self.sizes(path))

    def sizes(self, path: str = "") -> dict[str, int]:
        """How many bytes each file below a folder has, by its path."""
        return {name: size for name, size in self._listed(path) if size is not None}

    def _listed(self, path: str) -> list[tuple[str, int | None]]:
        """Files with their sizes, and folders with None."""
        from pyarrow.fs import FileSelector, FileType

        selector = FileSelector(self._at(path), recursive=True, allow_not_found=True)
        found = self._tried("it can't be listed", lambda: self._files.get_file_info(selector))
        return [(info.path[len(self._root) + 1 :], info.size if info.type == FileType.File else None) for info in found]

    def delete(self, path: str) -> None:
        """Delete a file, if it is there."""
        with suppress(FileNotFoundError):  # by an earlier try, whose answer was lost
            self._tried(f"{path} can't be deleted", lambda: self._files.delete_file(self._at(path)))

    def delete_below(self, path: str) -> None:
        """Delete all files below a folder."""
        with suppress(FileNotFoundError):
            self._tried(f"{path} can't be deleted", lambda: self._files.delete_dir(self._at(path)))

    def delete_empty_folders(self, path: str) -> None:
        """Delete the marks, empty objects, that pyarrow leaves below a folder where others have become empty."""
        folders = [name for name, size in self._listed(path) if size is None]
        files = self.names(path)
        self._all(self.delete_below, [name for name in folders if not any(f.startswith(f"{name}/") for f in files)])

    def upload(self, folder: Path, path: str) -> None:
        """Copy all files of a folder there."""
        files = [file for file in sorted(folder.rglob("*")) if file.is_file()]
        self._all(lambda file: self.write(f"{path}/{file.relative_to(folder).as_posix()}", file.read_bytes()), files)

    def download(self, path: str, folder: Path) -> None:
        """Copy all files below a path into a folder that exists."""

        def one(name: str) -> None:
            file = folder / name.removeprefix(f"{path}/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(self.read(name))

        self._all(one, self.names(path))

    def _all(self, function: Callable[[Answer], None], arguments: Sequence[Answer]) -> None:
        with ThreadPoolExecutor(_AT_ONCE) as several:
            list(several.map(function, arguments))

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}".rstrip("/")

    @cached_property
    def _files(self) -> "FileSystem":
        try:
            return _file_system(self.scheme)
        except (OSError, ValueError, ImportError) as err:
            raise StorageError(f"{self}: {_said(err)}") from err

    def _tried(self, what: str, once: Callable[[], Answer]) -> Answer:
        from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

        wait = wait_random_exponential(multiplier=0.2, max=_MOST_PAUSE_S)
        retry = retry_if_exception(lambda err: _may_pass(err, self._root in _answered))
        stop = stop_after_delay(_PATIENCE_S if self._patience_s is None else self._patience_s)
        try:
            answer = Retrying(retry=retry, wait=wait, stop=stop, reraise=True)(once)
            _answered.add(self._root)
            return answer
        except (FileNotFoundError, StorageError):
            raise
        except OSError as err:
            raise StorageError(f"{self}: {what}: {_said(err)}") from err


# What names a run: a folder, or one in shared storage.
Place: TypeAlias = Path | Storage


def place(text: str) -> Place:
    """The place that a user names; `~` is that user's home.

    Raises:
        RunError: It looks like an address, and is none that is known.
    """
    if text.startswith("file:///"):
        return Path(text.removeprefix("file://"))
    # No shell does that for what stands in a file, or after an equals sign.
    return Storage(text) if "://" in text else Path(os.path.expanduser(text))


def _may_pass(err: BaseException, has_answered: bool) -> bool:
    if not isinstance(err, OSError) or isinstance(err, FileNotFoundError | PermissionError | StorageError):
        return False
    said = str(err).rpartition("AWS Error ")[2]  # before it there are names, which may be anything
    if _UNKNOWN_HOST in said and not has_answered:
        return False
    return bool(_FOR_A_WHILE.search(said)) or not _FOR_GOOD.search(said)


def _said(err: Exception) -> str:
    """What a provider said, without the request's identity and curl's repetition."""
    text = re.sub(r"; Details: .*|\(Request ID: [^)]*\)", "", str(err), flags=re.DOTALL)
    return re.sub(r"^When .*?: (?=AWS Error)", "", text).strip()


@lru_cache
def _file_system(scheme: str) -> "FileSystem":
    # Imported here: reading a run in a folder must not wait for what reads one in a bucket.
    from pyarrow import fs

    if scheme == "gs":
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=15))
    if scheme == "az":
        account = os.environ.get("AZURE_STORAGE_ACCOUNT")
        if not account:
            raise ValueError("az:// needs AZURE_STORAGE_ACCOUNT, the account's name, in the environment")
        return fs.AzureFileSystem(account_name=account, account_key=os.environ.get("AZURE_STORAGE_KEY"))
    return fs.S3FileSystem(
        endpoint_override=os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"),
        # A small file is one request, not three.
        allow_delayed_open=True,
        connect_timeout=5,
        request_timeout=10,
        # Its first pauses are of some 50 ms, the standard one's of up to a second: where every fifth answer is a fault,
        # that takes two to three times as long. A fault that lasts has our own pauses, longer and by chance.
        retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=3),
    )
