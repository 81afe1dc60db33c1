"""Pictures to model inputs: reading, polarity, and MNIST's recipe."""

import gzip
import os
import re
import struct
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from trainables.errors import ImageError
from trainables.images import UInt8, decode_picture, is_dark_on_light, read_idx, read_images, to_input


def seven(height: int = 28, width: int = 28) -> UInt8:
    """A light 7 on dark that fills 20/28 of its frame, as MNIST's do."""
    frame = Image.new("L", (width, height), 0)
    unit = height / 28
    corners = [(8 * unit, 5 * unit), (20 * unit, 5 * unit), (12 * unit, 23 * unit)]
    ImageDraw.Draw(frame).line(corners, fill=255, width=max(1, round(3 * unit)))
    return np.array(frame)


def encode(pixels: UInt8, form: str = "PNG", mode: str | None = None) -> bytes:
    buffer = BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, form)
    return buffer.getvalue()


def idx(array: UInt8) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def centre_of_mass(pixels: UInt8) -> tuple[float, float]:
    rows, columns = np.indices(pixels.shape)
    return float((rows * pixels).sum() / pixels.sum()), float((columns * pixels).sum() / pixels.sum())


def only_error(path: Path) -> str:
    ((name, error),) = read_images(path, 28, 28)
    assert name == str(path) and isinstance(error, ImageError)
    return str(error)


@pytest.mark.parametrize("inverted", [False, True])
def test_a_picture_of_the_models_size_only_changes_polarity(inverted: bool) -> None:
    shown = 255 - seven() if inverted else seven()
    assert np.array_equal(to_input(shown, 28, 28), seven())


def test_to_input_gives_an_array_of_its_own() -> None:
    pixels = seven()
    to_input(pixels, 28, 28)[:] = 0
    assert pixels.any()


def test_a_known_polarity_is_not_judged() -> None:
    assert np.array_equal(to_input(seven(), 28, 28, dark_on_light=True), 255 - seven())


def test_optdigits_come_back_exactly_in_both_polarities() -> None:
    from sklearn.datasets import load_digits

    for image in np.rint(load_digits().images * (255 / 16)).astype(np.uint8):
        assert np.array_equal(to_input(image, 8, 8), image)
        assert np.array_equal(to_input(255 - image, 8, 8), image)


@pytest.mark.parametrize("what", ["framed", "shadowed", "filling"])
def test_one_misleading_sign_does_not_turn_the_polarity(what: str) -> None:
    page = 255 - seven(280, 280)
    if what == "framed":
        page[:3], page[-3:], page[:, :3], page[:, -3:] = 0, 0, 0, 0
    elif what == "shadowed":
        page[:, :60] //= 3
    else:
        page = page[45:235, 70:215]
    assert is_dark_on_light(page)
    assert not is_dark_on_light(255 - page)


def test_a_page_is_cut_scaled_and_centred_as_mnist_is() -> None:
    page = np.full((600, 500), 240, np.uint8)
    page[300:580, 20:300] = 240 - seven(280, 280) // 2
    got = to_input(page, 28, 28)
    rows, columns = np.flatnonzero(got.any(axis=1)), np.flatnonzero(got.any(axis=0))
    assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
    assert centre_of_mass(got) == pytest.approx((14, 14), abs=0.51)
    assert got.max() >= 250 and got.min() == 0


def test_paper_noise_is_not_ink() -> None:
    noise = np.random.default_rng(0).normal(0, 5, (280, 280))
    noisy = np.clip(200 - seven(280, 280) * 0.6 + noise, 0, 255).astype(np.uint8)
    clean = to_input(255 - seven(280, 280), 28, 28).astype(int)
    assert np.abs(to_input(noisy, 28, 28) - clean).mean() < 3


def test_a_small_frame_is_filled_from_top_to_bottom() -> None:
    got = to_input(255 - seven(280, 280), 8, 8)
    assert got.shape == (8, 8)
    assert got.any(axis=1).all()
    assert got.any(axis=0).sum() <= 6


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            np.full((28, 28), 250, np.uint8),
            "must show a digit, got a blank picture (grey levels 250 to 250); "
            "give one with at least 16 levels between ink and ground",
        ),
        (np.zeros((28, 28, 3), np.uint8), "must be uint8 grey levels (H, W), got uint8 (28, 28, 3)"),
        (np.zeros((0, 28), np.uint8), "must be uint8 grey levels (H, W), got uint8 (0, 28)"),
    ],
)
def test_what_shows_nothing_is_refused(pixels: UInt8, message: str) -> None:
    with pytest.raises(ImageError, match=f"^{re.escape(message)}$"):
        to_input(pixels, 28, 28)


@pytest.mark.parametrize("mode", [None, "RGB", "P", "1", "RGBA", "CMYK"])
def test_any_mode_of_picture_gives_the_same_grey_levels(mode: str | None) -> None:
    pixels = np.where(seven() > 127, 255, 0).astype(np.uint8)
    assert np.array_equal(decode_picture(encode(pixels, "TIFF", mode)), pixels)


def test_sixteen_bits_are_scaled_not_cut_off() -> None:
    buffer = BytesIO()
    Image.fromarray(seven().astype(np.uint16) * 257).save(buffer, "PNG")
    assert np.array_equal(decode_picture(buffer.getvalue()), seven())


@pytest.mark.parametrize("ink", [0, 255])
def test_ink_on_a_transparent_ground_is_seen_whatever_its_colour(ink: int) -> None:
    layer = np.full((28, 28, 4), ink, np.uint8)
    layer[..., 3] = seven()
    assert np.array_equal(to_input(decode_picture(encode(layer)), 28, 28), seven())


def test_a_photo_is_turned_as_its_exif_says() -> None:
    buffer = BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its left side: turn a quarter clockwise
    Image.fromarray(np.rot90(seven())).save(buffer, "PNG", exif=exif)
    assert np.array_equal(decode_picture(buffer.getvalue()), seven())


def test_a_folder_goes_on_after_a_bad_picture(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(encode(seven()))
    (tmp_path / "a.png").write_bytes(b"no picture")
    (tmp_path / "c.JPG").write_bytes(encode(255 - seven(), "JPEG"))
    (tmp_path / "notes.txt").write_text("left out")
    (tmp_path / ".hidden.png").write_bytes(b"left out")
    (tmp_path / "deeper").mkdir()
    items = list(read_images(tmp_path, 28, 28))
    assert [Path(name).name for name, _ in items] == ["a.png", "b.png", "c.JPG"]
    assert isinstance(items[0][1], ImageError)
    assert np.array_equal(items[1][1], seven())  # type: ignore[arg-type]
    assert np.abs(items[2][1].astype(int) - seven()).mean() < 5  # type: ignore[union-attr]


@pytest.mark.parametrize("packed", [False, True])
def test_the_images_of_an_idx_file_are_numbered(tmp_path: Path, packed: bool) -> None:
    content = idx(np.stack([seven(), np.zeros((28, 28), np.uint8), 255 - seven()]))
    path = tmp_path / "digits"
    path.write_bytes(gzip.compress(content) if packed else content)
    items = list(read_images(path, 28, 28))
    assert [name for name, _ in items] == [f"{path}[{number}]" for number in range(3)]
    assert isinstance(items[1][1], ImageError)
    assert np.array_equal(items[0][1], seven()) and np.array_equal(items[2][1], seven())  # type: ignore[arg-type]


def test_labels_are_no_images(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(idx(np.arange(3, dtype=np.uint8)))
    assert only_error(path) == "must hold uint8 images (N, H, W), got uint8 (3,)"


def test_bad_files_say_what_they_lack(tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(b"")
    assert only_error(path) == "must be a picture, got an empty file"
    path.write_bytes(b"hello, world")
    assert only_error(path) == (
        "must be a picture (AVIF, BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP), got something else or a damaged one"
    )
    path.write_bytes(encode(seven(500, 500))[:-400])
    assert re.match(r"must be a whole picture, got a damaged or truncated one \(.+\)$", only_error(path))
    path.write_bytes(encode(np.zeros((8000, 8000), np.uint8)))
    assert only_error(path) == "must have at most 50 megapixels, got 64; scale it down"
    path.write_bytes(encode(np.zeros((20000, 10000), np.uint8)))
    assert re.match("must have at most 50 megapixels, got (200|far more); scale it down$", only_error(path))


def test_bad_idx_files_say_what_they_lack(tmp_path: Path) -> None:
    path = tmp_path / "digits.gz"
    content = idx(np.stack([seven()] * 3))
    path.write_bytes(gzip.compress(content)[:-40])
    assert only_error(path).startswith("must be a whole gzip file, got a damaged or truncated one (")
    path.write_bytes(content[:-1])
    assert only_error(path) == "must have 2368 bytes as its header (3, 28, 28) says, got 2367: truncated"
    path.write_bytes(gzip.compress(content + b"!"))
    assert only_error(path) == "must have 2368 bytes as its header (3, 28, 28) says, got 2369: too long"
    path.write_bytes(content[:9])
    assert only_error(path) == "must have a header of 16 bytes, got 9 bytes in all: truncated"
    path.write_bytes(gzip.compress(b"hello"))
    assert only_error(path) == "must start with the magic number of an idx file, got 68 65 6c 6c"


def test_a_path_without_pictures_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "nothing.png"
    ((name, error),) = read_images(missing, 28, 28)
    assert name == str(missing)
    assert str(error) == "must be a picture, a folder of pictures or an idx3 file, but doesn't exist"
    ((name, error),) = read_images(tmp_path, 28, 28)
    assert name == str(tmp_path)
    assert re.fullmatch(r"a folder must hold pictures \(\.avif, .*\), got none", str(error))
    (tmp_path / "cats").mkdir()
    Image.new("L", (28, 28)).save(tmp_path / "cats" / "tom.png")
    ((name, error),) = read_images(tmp_path, 28, 28)
    assert str(error).endswith(f", got folders of them; name those, like {tmp_path}/*")


@pytest.mark.mnist
def test_mnist_keeps_its_pixels_and_its_form() -> None:
    folder = os.environ.get("DIGITSEARCH_MNIST")
    if not folder:
        pytest.skip("DIGITSEARCH_MNIST doesn't name a folder with MNIST's four .gz files")
    images = read_idx(Path(folder) / "t10k-images-idx3-ubyte.gz")
    assert not any(is_dark_on_light(image) or not is_dark_on_light(255 - image) for image in images)
    differences = []
    for image in images[::50]:
        assert np.array_equal(to_input(255 - image, 28, 28), image)
        enlarged = np.kron(255 - image, np.ones((10, 10), np.uint8))
        differences.append(np.abs(to_input(enlarged, 28, 28).astype(int) - image).mean())
    assert np.mean(differences) < 0.5  # 0.17 of 255 when written; half of the images come back exactly
    assert np.median(differences) == 0
