"""Pictures of digits: from files to what a model takes.

A model sees light ink on a dark ground, as in MNIST. `read_images` reads files of any kind, `to_input` turns
one picture of any size and either polarity into a frame of the model's size.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trainables.errors import ImageError

if TYPE_CHECKING:
    from PIL import Image

UInt8 = npt.NDArray[np.uint8]
Counts = npt.NDArray[np.int64]

SUFFIXES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
# Named, because Pillow's full list holds readers that start other programs (EPS starts Ghostscript).
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MAX_MEGAPIXELS = 50
_MAX_PICTURE_MIB = 200
# Of a progressive JPEG each scan goes over the whole picture again and may take 14 bytes of the file: ten megabytes of
# them keep a core busy for hours. Encoders write ten.
_JPEG_SCAN, _MAX_JPEG_SCANS = b"\xff\xda", 100
_MAX_IDX_MIB = 1024  # the largest such file of the MNIST family, EMNIST by class, has 522
_IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"

_LEVELS = np.arange(256)
# Grey level after stretching, found on 500 test images of MNIST enlarged tenfold in several ways, as JPEG and
# with noise: lower, JPEG's ripples count as ink; higher, faint ends of strokes are cut off.
_FAINTEST_INK = 38
# Below this range of grey levels a picture is paper and noise: a faint pencil on a scan has 40 and more.
_MIN_CONTRAST = 16
_MNIST_FILL = 20 / 28  # MNIST's digits are 20 pixels long in frames of 28
_SMALLEST_FRAME_WITH_MARGIN = 16  # smaller frames, as the 8 x 8 of optdigits, are filled from top to bottom
_SMALL_FRAME_FILL_X = 6 / 8  # 92 in 100 of optdigits' images are no wider


def read_images(path: Path, height: int, width: int) -> Iterator[tuple[str, UInt8 | ImageError]]:
    """Model inputs from a picture, a folder of pictures (one level, sorted by name) or an idx3 file (also
    .gz).

    Args:
        path: What to read. A file's content decides what it is, not its name; of a folder's files those whose
            names end like pictures are read.
        height: Of the model's frame, in pixels.
        width: Of the model's frame, in pixels.

    Yields:
        A name (the file's path; `file[17]` for the images of an idx file) and either the uint8 (height,
        width) input of `to_input` or the `ImageError` that says why there is none, so that one bad picture
        costs only itself; likewise for a path that isn't there and a folder without pictures.
    """
    if path.is_file():
        yield from _read_file(path, height, width)
    elif not path.is_dir():
        yield str(path), ImageError("must be a picture, a folder of pictures or an idx3 file, but doesn't exist")
    else:
        files = list_pictures(path)
        for file in files:
            yield from _read_file(file, height, width)
        if not files:
            is_further_in = any(inner.is_dir() and list_pictures(inner) for inner in path.iterdir())
            got = f"folders of them; name those, like {path}/*" if is_further_in else "none"
            yield str(path), ImageError(f"a folder must hold pictures ({', '.join(SUFFIXES)}), got {got}")


def list_pictures(folder: Path) -> list[Path]:
    """The picture files that lie directly in folder, sorted by name; hidden ones are left out."""
    files = (file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
    return sorted(file for file in files if file.is_file() and not file.name.startswith("."))


def _read_file(path: Path, height: int, width: int) -> Iterator[tuple[str, UInt8 | ImageError]]:
    try:
        if not _is_idx(path):
            yield str(path), to_input(read_picture(path), height, width)
            return
        images = read_idx(path)
        if images.ndim != 3 or images.dtype != np.uint8:
            raise ImageError(f"must hold uint8 images (N, H, W), got {images.dtype} {images.shape}")
    except ImageError as err:
        yield str(path), err
        return
    for number, pixels in enumerate(images):
        yield f"{path}[{number}]", _input_or_error(pixels, height, width)


def _input_or_error(pixels: UInt8, height: int, width: int) -> UInt8 | ImageError:
    try:
        return to_input(pixels, height, width)
    except ImageError as err:
        return err


def _is_idx(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as err:
        raise ImageError(f"can't be read: {err.strerror}") from err
    return start[:2] == _GZIP_MAGIC or (len(start) == 4 and start[:2] == b"\0\0" and start[2] in _IDX_TYPES)


def read_idx(path: Path) -> npt.NDArray[Any]:
    """The array an idx file holds (images, labels), gzipped or not.

    Raises:
        ImageError: The file can't be read, is truncated or damaged, or has not exactly the size its header
            says.
    """
    return parse_idx(read_unpacked(path))


def read_unpacked(path: Path) -> bytes:
    """The bytes of a file, unpacked where it is gzipped (known by its first bytes, not by its name).

    Raises:
        ImageError: The file can't be read, is truncated or damaged, or larger than any idx file should be.
    """
    content = _read_bytes(path, _MAX_IDX_MIB)
    if content[:2] != _GZIP_MAGIC:
        return content
    try:
        with gzip.open(BytesIO(content)) as file:
            unpacked = file.read((_MAX_IDX_MIB << 20) + 1)
    except (EOFError, OSError, zlib.error) as err:
        raise ImageError(f"must be a whole gzip file, got a damaged or truncated one ({err})") from err
    if len(unpacked) > _MAX_IDX_MIB << 20:
        raise ImageError(f"must have at most {_MAX_IDX_MIB} MiB unpacked, got more")
    return unpacked


def parse_idx(content: bytes) -> npt.NDArray[Any]:
    """The array in the bytes of an idx file (Y. LeCun, C. Cortes, C. Burges: The MNIST database, file
    formats).

    Raises:
        ImageError: The magic number is not an idx file's, or the size is not exactly what the header says.
    """
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES or not 1 <= content[3] <= 4:
        raise ImageError(f"must start with the magic number of an idx file, got {content[:4].hex(' ') or 'nothing'}")
    dtype, start = np.dtype(_IDX_TYPES[content[2]]), 4 + 4 * content[3]
    if len(content) < start:
        raise ImageError(f"must have a header of {start} bytes, got {len(content)} bytes in all: truncated")
    shape = struct.unpack(f">{content[3]}I", content[4:start])
    size = start + math.prod(shape) * dtype.itemsize
    if len(content) != size:
        what = "truncated" if len(content) < size else "too long"
        raise ImageError(f"must have {size} bytes as its header {shape} says, got {len(content)}: {what}")
    return np.frombuffer(bytearray(content), dtype, offset=start).reshape(shape)


def _read_bytes(path: Path, max_mib: int) -> bytes:
    try:
        size = path.stat().st_size
        if size > max_mib << 20:
            raise ImageError(f"must have at most {max_mib} MiB, got {size / 2**20:.0f}")
        return path.read_bytes()
    except OSError as err:
        raise ImageError(f"can't be read: {err.strerror}") from err


def read_picture(path: Path) -> UInt8:
    """A picture file in grey levels, uint8 (H, W) of its own size; see `decode_picture`.

    Raises:
        ImageError: The file can't be read, is no picture, damaged, empty or too large. The message leaves the
            file's name to the caller.
    """
    return decode_picture(_read_bytes(path, _MAX_PICTURE_MIB))


def decode_picture(
    content: bytes, *, max_megapixels: float = _MAX_MEGAPIXELS, formats: tuple[str, ...] = _FORMATS
) -> UInt8:
    """The grey levels, uint8 (H, W), of a picture file's bytes (PNG, JPEG and other common formats).

    Turned upright as its EXIF data say; what is transparent becomes white; of an animation the first frame.

    Args:
        content: Of the file.
        max_megapixels: Larger ones are refused before they are unpacked.
        formats: By Pillow's names, of those that are read here.

    Raises:
        ImageError: The bytes are no picture, a damaged one, or a larger one.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not content:
        raise ImageError("must be a picture, got an empty file")
    try:
        with Image.open(BytesIO(content), formats=formats) as picture:
            megapixels = picture.width * picture.height / 1e6
            if megapixels > max_megapixels:
                raise ImageError(_too_large(max_megapixels, f"{megapixels:.3g}"))
            if picture.format == "JPEG" and content.count(_JPEG_SCAN) > _MAX_JPEG_SCANS:
                raise ImageError(f"must have at most {_MAX_JPEG_SCANS} scans as a JPEG file, got more; save it anew")
            return _grey(ImageOps.exif_transpose(picture))
    except ImageError:
        raise
    except UnidentifiedImageError as err:
        raise ImageError(f"must be a picture ({', '.join(formats)}), got something else or a damaged one") from err
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as err:
        raise ImageError(_too_large(max_megapixels, "far more")) from err
    except Exception as err:  # Pillow's readers let any exception through on damaged files
        raise ImageError(f"must be a whole picture, got a damaged or truncated one ({err})") from err


def _too_large(most: float, got: str) -> str:
    return f"must have at most {most:.3g} megapixels, got {got}; scale it down"


def _grey(picture: Image.Image) -> UInt8:
    if picture.mode.startswith(("I", "F")):
        return _grey_from_deep(picture)
    if not picture.has_transparency_data:
        return np.array(picture.convert("RGB").convert("L") if picture.mode != "L" else picture)
    on_white = _composite(picture, "white")
    # White ink on nothing would vanish on white.
    return on_white if np.ptp(on_white) >= _MIN_CONTRAST else _composite(picture, "black")


def _grey_from_deep(picture: Image.Image) -> UInt8:
    # Pillow's own conversion cuts 16-bit levels off at 255 instead of scaling them.
    values = np.array(picture, dtype=np.float64)
    highest = 65535.0 if picture.mode.startswith("I") else (1.0 if values.max() <= 1 else 255.0)
    return np.rint(np.clip(values / highest, 0, 1) * 255).astype(np.uint8)


def _composite(picture: Image.Image, ground: str) -> UInt8:
    from PIL import Image

    layer = picture.convert("RGBA")
    return np.array(Image.alpha_composite(Image.new("RGBA", layer.size, ground), layer).convert("L"))


def is_dark_on_light(pixels: UInt8) -> bool:
    """Whether a picture shows dark ink on a light ground, judged by uint8 (H, W) grey levels.

    The ground is the middle one of three guesses (the border's median, the median and the mean of all), so
    that a drawn frame, a shadow at the edge or a digit that fills its frame each mislead one guess only.
    Right for all 70,000 images of MNIST and all 1,797 of optdigits, as they are and inverted.
    """
    return _is_dark_on_light(pixels, _counts(pixels))


def _is_dark_on_light(pixels: UInt8, counts: Counts) -> bool:
    border = np.concatenate([pixels[0], pixels[-1], pixels[1:-1, 0], pixels[1:-1, -1]])
    mean = float(counts @ _LEVELS / pixels.size)
    guesses = sorted([_middle(_counts(border)), _middle(counts), mean])
    return guesses[1] * 2 > sum(_extremes(counts))


def to_input(pixels: UInt8, height: int, width: int, *, dark_on_light: bool | None = None) -> UInt8:
    """One picture as a model sees it: light ink on dark, uint8 (height, width).

    A picture of exactly that size is only inverted where it is dark on light, so an image of the data set
    comes back as it was. Any other is prepared as MNIST was (Y. LeCun et al., 1998, section III.A): stretched
    in contrast, cut to its ink, scaled with antialiasing until the longer side fills 20/28 of the frame,
    placed with its centre of mass in the middle. In a frame below 16 pixels it fills the height and at most
    3/4 of the width, as in optdigits.

    Args:
        pixels: uint8 (H, W) grey levels.
        height: Of the frame, in pixels.
        width: Of the frame, in pixels.
        dark_on_light: The picture's polarity where it is known; None to judge it by `is_dark_on_light`.

    Raises:
        ImageError: pixels is no uint8 (H, W) array, or shows nothing.
    """
    if pixels.ndim != 2 or pixels.dtype != np.uint8 or not pixels.size:
        raise ImageError(f"must be uint8 grey levels (H, W), got {pixels.dtype} {pixels.shape}")
    counts = _counts(pixels)
    lowest, highest = _extremes(counts)
    if highest - lowest < _MIN_CONTRAST:
        raise ImageError(
            f"must show a digit, got a blank picture (grey levels {lowest} to {highest}); "
            f"give one with at least {_MIN_CONTRAST} levels between ink and ground"
        )
    inverted = _is_dark_on_light(pixels, counts) if dark_on_light is None else dark_on_light
    light = 255 - pixels if inverted else pixels.copy()
    if light.shape == (height, width):
        return light
    return _normalise(_stretched(counts[::-1] if inverted else counts)[light], height, width)


def _normalise(light: UInt8, height: int, width: int) -> UInt8:
    return _centre(_scale(_crop(light), height, width), height, width)


def _counts(pixels: UInt8) -> Counts:
    """How many pixels have each grey level, (256,). What asks for levels alone asks these: they are fewer."""
    return np.bincount(pixels.ravel(), minlength=256)


def _extremes(counts: Counts) -> tuple[int, int]:
    """The darkest and the lightest grey level that there is."""
    there = np.flatnonzero(counts)
    return int(there[0]), int(there[-1])


def _middle(counts: Counts) -> float:
    """The median of the grey levels."""
    until = counts.cumsum()
    lower, upper = until.searchsorted([(until[-1] - 1) // 2, until[-1] // 2], side="right").tolist()
    return float(lower + upper) / 2


def _stretched(counts: Counts) -> UInt8:
    """What each grey level becomes, (256,): 0 for the ground with its noise, 255 for the lightest ink."""
    ground = np.where(_otsu(counts) >= _LEVELS, counts, 0)
    median = _middle(ground)
    # Twice the distances are whole numbers too; 1.4826 makes them the deviation of a normal distribution.
    distances = np.abs(2 * _LEVELS - round(2 * median))
    noise = 1.4826 * _middle(np.bincount(distances, weights=ground).astype(np.int64)) / 2
    lightest = _extremes(counts)[1]
    low, high = median + 3 * noise, lightest - 3 * noise  # the lightest ink has noise too
    if high <= low:
        low, high = median, float(lightest)
    levels: UInt8 = np.rint(np.clip((_LEVELS - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    return levels


def _otsu(counts: Counts) -> int:
    """The grey level, last of the darker class, that best parts pixels into two (N. Otsu, 1979)."""
    below = counts.cumsum().astype(np.float64)
    sums = (counts * _LEVELS).cumsum()
    above = below[-1] - below
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return int(np.nanargmax(between))


def _crop(light: UInt8) -> UInt8:
    ink = light >= _FAINTEST_INK
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    return light[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _scale(ink: UInt8, height: int, width: int) -> UInt8:
    from PIL import Image

    size = _filling_size(ink, height, width) if _is_small(height, width) else _margin_size(ink, height, width)
    # Box averages over areas, as counting the ink under each pixel does; enlarged with it, pixels would stay
    # blocks.
    filter_ = Image.Resampling.BOX if size[1] < ink.shape[0] else Image.Resampling.BICUBIC
    return np.array(Image.fromarray(ink).resize(size, filter_))


def _is_small(height: int, width: int) -> bool:
    return min(height, width) < _SMALLEST_FRAME_WITH_MARGIN


def _margin_size(ink: UInt8, height: int, width: int) -> tuple[int, int]:
    ratio = _MNIST_FILL * min(height / ink.shape[0], width / ink.shape[1])
    return max(1, round(ink.shape[1] * ratio)), max(1, round(ink.shape[0] * ratio))


def _filling_size(ink: UInt8, height: int, width: int) -> tuple[int, int]:
    proportional = round(ink.shape[1] * height / ink.shape[0])
    return min(max(1, proportional), round(width * _SMALL_FRAME_FILL_X)), height


def _centre(ink: UInt8, height: int, width: int) -> UInt8:
    frame = np.zeros((height, width), np.uint8)
    top, left = _offset(ink.sum(axis=1), height), _offset(ink.sum(axis=0), width)
    frame[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return frame


def _offset(mass: npt.NDArray[Any], length: int) -> int:
    """Where ink starts in a frame of length: its centre of mass nearest the middle, all of it inside."""
    if not mass.any():
        raise ImageError("must show a digit, got specks that vanish at the size that the model reads")
    centre = float((mass * np.arange(len(mass))).sum() / mass.sum())
    # Counted from 0, MNIST's centres of mass lie between 13.5 and 14.5, those of optdigits about 3.5.
    middle = length // 2 if length >= _SMALLEST_FRAME_WITH_MARGIN else (length - 1) / 2
    return min(max(round(middle - centre), 0), length - len(mass))
