"""What is sent to /predict: read within bounds, and turned into what the model sees.

Whatever is wrong with a request ends as an `HTTPException` whose detail is one sentence: what must hold, what was got.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from email.message import Message
from io import BytesIO
from typing import Any, NoReturn

import numpy as np
from fastapi import HTTPException, Request
from pydantic_core import from_json
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import File, FormParser
from starlette.requests import ClientDisconnect

from trainables.errors import ImageError
from trainables.images import UInt8, decode_picture, to_input

# Who sends a damaged form is told so; a line each on the server's terminal is for nobody.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

MOST_IMAGES = 64
# What browsers draw and telephones take. Pillow reads more, through code that has met less.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "WEBP")
PICTURE_TYPES = tuple(f"image/{name.lower()}" for name in FORMATS)
JSON_TYPE, FORM_TYPE = "application/json", "multipart/form-data"
MOST_MIB = 8
MOST_MEGAPIXELS = 13  # a telephone's twelve; unpacked and centred they take 0.5 GB for a second

_MOST_BYTES = MOST_MIB << 20
_MOST_HELD_BYTES = 256 << 20  # of all requests together
# A client that sends too much reads the answer only when it has sent all; to here it may.
_MOST_DISCARDED_BYTES = 64 << 20
_PATIENCE_S = 20.0
_LONGEST_NAME = 80


@dataclass(frozen=True)
class Inputs:
    """The images of one request.

    Args:
        names: One an image; the name of its file, or None.
        pixels: uint8 (N, height, width), light ink on dark: what the model sees.
    """

    names: Sequence[str | None]
    pixels: UInt8


class Bodies:
    """Reads bodies, so many bytes at once and no more."""

    def __init__(self) -> None:
        self._num_bytes = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The body of a request, whatever its header says of its length; its bytes count until the block is left."""
        body = bytearray()
        try:
            try:
                async with asyncio.timeout(_PATIENCE_S):
                    await self._fill(body, request)
            except TimeoutError:
                _refuse(408, f"a request must be sent within {_PATIENCE_S:g} s, got a part of it")
            except ClientDisconnect:
                _refuse(400, "a request must be sent whole, got a part of it")
            yield bytes(body)
        finally:
            self._num_bytes -= len(body)

    async def _fill(self, body: bytearray, request: Request) -> None:
        _check_length(request)
        num_got = 0
        async for chunk in request.stream():
            num_got += len(chunk)
            if num_got <= _MOST_BYTES:
                self._hold(body, chunk)
            elif num_got > _MOST_DISCARDED_BYTES:
                break
        if num_got > _MOST_BYTES:
            _refuse(413, f"a request must have at most {MOST_MIB} MiB, got more; scale pictures down or send fewer")

    def _hold(self, body: bytearray, chunk: bytes) -> None:
        if self._num_bytes + len(chunk) > _MOST_HELD_BYTES:
            _refuse(503, "too much is being sent at once; try again in a second", {"Retry-After": "1"})
        self._num_bytes += len(chunk)
        body += chunk


def _check_length(request: Request) -> None:
    if request.headers.get("content-encoding", "identity") != "identity":
        _refuse(415, f"Content-Encoding must be left out, got {_shown(request.headers['content-encoding'])}")
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > _MOST_DISCARDED_BYTES:
        _refuse(413, f"a request must have at most {MOST_MIB} MiB, got {int(length) >> 20}", {"Connection": "close"})


def inputs(content_type: str, body: bytes, height: int, width: int) -> Inputs:
    """What the model sees of a body.

    Args:
        content_type: As the header has it; decides what the body is.
        body: A picture, a form with files, or JSON with pixels.
        height: Of the model's images, in pixels.
        width: Of the model's images, in pixels.

    Raises:
        HTTPException: 400, 413, 415 or 422.
    """
    header = Message()
    header["Content-Type"] = content_type
    kind = header.get_content_type() if content_type else ""
    reader = _READERS.get(kind, _no_reader)
    if not body and reader is not _no_reader:
        _refuse(400, "the body must be a picture, a form with pictures or JSON, got an empty one")
    found = reader(body, header)
    if len(found) > MOST_IMAGES:
        _refuse(413, f"a request must hold at most {MOST_IMAGES} images, got {len(found)}; send them in several")
    try:
        pixels = [_input(sent, len(found), height, width) for sent in found]
    except ImageError as err:
        _refuse(422, str(err))
    return Inputs([sent.name for sent in found], np.stack(pixels))


@dataclass(frozen=True)
class _Sent:
    """One image as it came: a picture's bytes or grey levels, and how messages call it."""

    called: str
    content: bytes | UInt8
    name: str | None = None


def _input(sent: _Sent, num_sent: int, height: int, width: int) -> UInt8:
    try:
        if isinstance(sent.content, bytes):
            most = MOST_MEGAPIXELS / num_sent
            return to_input(decode_picture(sent.content, max_megapixels=most, formats=FORMATS), height, width)
        return to_input(sent.content, height, width)
    except ImageError as err:
        raise ImageError(f"{sent.called} {err}") from err


def _picture(body: bytes, header: Message) -> list[_Sent]:
    return [_Sent("the picture", body)]


def _form(body: bytes, header: Message) -> list[_Sent]:
    files: list[File] = []

    def keep(file: File) -> None:
        if len(files) == MOST_IMAGES:
            _refuse(413, f"a form must hold at most {MOST_IMAGES} pictures, got more; send them in several")
        files.append(file)

    def refuse(field: Any) -> None:
        name = (field.field_name or b"").decode("utf-8", "replace")
        _refuse(400, f"a form must hold files only, got the field {_shown(name)}; with curl: -F images=@digit.png")

    boundary = header.get_boundary()
    if not boundary:
        _refuse(
            400, "a form's Content-Type must name its boundary, got none; leave the header to the library that sends"
        )
    try:
        parser = FormParser(FORM_TYPE, refuse, keep, boundary=boundary, config={"MAX_MEMORY_FILE_SIZE": _MOST_BYTES})
        parser.write(body)
        parser.finalize()
    except (FormParserError, UnicodeError) as err:
        raise HTTPException(400, f"a form must be one of multipart/form-data, got a damaged one ({err})") from err
    if not files:
        _refuse(400, "a form must hold files, got none; with curl: -F images=@digit.png")
    return [_file(file) for file in files]


def _file(file: File) -> _Sent:
    assert isinstance(file.file_object, BytesIO), "no file is larger than what is kept in memory"
    name = (file.file_name or b"").decode("utf-8", "replace")[:_LONGEST_NAME]
    return _Sent(repr(name), file.file_object.getvalue(), name)


def _pixels(body: bytes, header: Message) -> list[_Sent]:
    try:
        said = from_json(body, allow_inf_nan=False)
    except ValueError as err:
        raise HTTPException(400, f"JSON must be well-formed, got: {str(err)[:200]}") from err
    images = said.get("images") if isinstance(said, dict) else None
    if not isinstance(images, list) or not images:
        _refuse(422, 'JSON must be {"images": [...]} with the grey levels of one image (H, W) or of many (N, H, W)')
    if not _is_many(images):
        return [_Sent("images", _grey_levels(images, "images"))]
    if len(images) > MOST_IMAGES:  # before they are looked at
        _refuse(413, f"a request must hold at most {MOST_IMAGES} images, got {len(images)}; send them in several")
    names = [f"images[{index}]" for index in range(len(images))]
    return [_Sent(name, _grey_levels(image, name)) for name, image in zip(names, images, strict=True)]


def _is_many(images: Sequence[Any]) -> bool:
    first = images[0]
    return isinstance(first, list) and bool(first) and isinstance(first[0], list)


def _grey_levels(image: Any, name: str) -> UInt8:
    if not isinstance(image, list) or not image or not all(isinstance(row, list) for row in image):
        _refuse(422, f"{name} must be a list of rows, each a list of grey levels")
    widths = {len(row) for row in image}
    if len(widths) > 1:
        _refuse(422, f"{name} must have rows of one length, got {min(widths)} to {max(widths)}")
    try:
        rows = [bytes(row) for row in image]  # takes whole numbers from 0 to 255, and nothing else
    except (TypeError, ValueError) as err:
        raise HTTPException(422, f"{name} must have grey levels that are whole numbers from 0 to 255: {err}") from err
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(rows), -1)


def _no_reader(body: bytes, header: Message) -> NoReturn:
    got = header["Content-Type"]
    shown = f"got {_shown(got)}" if got else "got none"
    _refuse(
        415,
        f"Content-Type must be image/png or another picture's, {FORM_TYPE} or {JSON_TYPE}, {shown}; "
        "with curl: -F images=@digit.png",
    )


_READERS: dict[str, Callable[[bytes, Message], list[_Sent]]] = {
    **dict.fromkeys((*PICTURE_TYPES, "image/jpg", "application/octet-stream"), _picture),
    FORM_TYPE: _form,
    JSON_TYPE: _pixels,
}


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_NAME else text[:_LONGEST_NAME] + "…")


def _refuse(status: int, sentence: str, headers: dict[str, str] | None = None) -> NoReturn:
    raise HTTPException(status, sentence, headers)
