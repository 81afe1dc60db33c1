"""The page to draw digits on, in a real browser: mouse, finger, pasted pictures, both themes."""

import base64
import math
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from browser import opened
from PIL import Image
from playwright.sync_api import Browser, Page, expect
from served import mnist_model, trained

from benchmarks import serving
from trainables.datasets import load_part

Stroke = Sequence[tuple[float, float]]

# As people write them, on paper of width and height 1.
SEVEN: list[Stroke] = [[(0.27, 0.22), (0.50, 0.21), (0.72, 0.22), (0.60, 0.45), (0.50, 0.65), (0.44, 0.82)]]
THREE: list[Stroke] = [
    [
        (0.32, 0.25), (0.42, 0.18), (0.55, 0.18), (0.64, 0.26), (0.62, 0.37), (0.53, 0.44), (0.45, 0.46), (0.55, 0.48),
        (0.65, 0.55), (0.68, 0.66), (0.61, 0.77), (0.48, 0.82), (0.34, 0.77),
    ]
]  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of a model of the bundled digits."""
    folder = trained(tmp_path_factory.mktemp("models") / "small", ["model=cnn"], max_epochs=3)
    with serving.server(folder) as (url, _):
        yield url


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a server of a model of MNIST, and where the data set lies."""
    folder = mnist_model(tmp_path_factory)
    with serving.server(folder) as (url, _):
        yield url, folder.parent / "data"


def draw(page: Page, strokes: Sequence[Stroke]) -> None:
    """Draw with the mouse."""
    box = page.locator("#paper").bounding_box()
    assert box is not None
    for stroke in strokes:
        points = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for x, y in points[1:]:
            page.mouse.move(x, y, steps=4)
        page.mouse.up()


def verdict(page: Page) -> str:
    """The digit that the page says once it has nothing more to ask."""
    # The page's policy forbids eval, which Playwright's own waiting needs.
    page.evaluate(
        "async () => { while (isAsking || asked !== strokes || !strokes) await new Promise(requestAnimationFrame); }"
    )
    return page.locator("#verdict").inner_text().partition(",")[0]


@pytest.mark.mnist
def test_a_seven_and_a_three_are_drawn_with_the_mouse(browser: Browser, mnist: tuple[str, Path]) -> None:
    with opened(browser) as (page, record):
        page.goto(mnist[0])
        draw(page, SEVEN)
        assert verdict(page) == "7"
        seen = page.evaluate("[...document.getElementById('seen').getContext('2d').getImageData(0, 0, 28, 28).data]")
        assert max(seen[::4]) == 255 and sum(level > 0 for level in seen[::4]) > 30
        page.get_by_role("button", name="Clear").click()
        assert page.locator("#verdict").inner_text() == "Draw with mouse, pen or finger."
        draw(page, THREE)
        assert verdict(page) == "3"
        shares = [float(text.rstrip(" %")) for text in page.locator("li .share").all_inner_texts()]
        assert len(shares) == 10 and math.isclose(sum(shares), 100, abs_tol=0.6)
        best = page.locator("li.best")
        assert best.locator("span").first.inner_text() == "3"
        width = best.locator(".bar").evaluate("bar => bar.style.width")
        assert float(width.rstrip("%")) == max(shares)
        assert record.complaints == [] and all(one.startswith(mnist[0]) for one in record.requests)


@pytest.mark.mnist
def test_a_hundred_digits_are_pasted(browser: Browser, mnist: tuple[str, Path]) -> None:
    test = load_part("mnist", mnist[1], "test")
    chosen = np.random.default_rng(0).choice(len(test.labels), 100, replace=False)
    num_right = 0
    with opened(browser) as (page, record):
        page.goto(mnist[0])
        for index in chosen:
            dark_on_light = Image.fromarray(255 - test.images[index]).resize((280, 280), Image.Resampling.BICUBIC)
            paste(page, dark_on_light)
            num_right += verdict(page) == str(test.labels[index])
        assert record.complaints == []
    assert num_right >= 95


def paste(page: Page, picture: Image.Image) -> None:
    content = BytesIO()
    picture.save(content, "PNG")
    page.evaluate(
        """async content => {
            const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
            const data = new DataTransfer();
            data.items.add(new File([bytes], "digit.png", { type: "image/png" }));
            clear();
            document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
            while (!strokes) await new Promise(requestAnimationFrame);
        }""",
        base64.b64encode(content.getvalue()).decode(),
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_it_fits_and_complains_of_nothing(browser: Browser, small: str, scheme: str, width: int) -> None:
    viewport = {"width": width, "height": 900}
    with opened(browser, viewport=viewport, color_scheme=scheme) as (page, record):
        page.goto(small)
        assert "optdigits; test accuracy 0." in page.locator("#model").inner_text()
        draw(page, SEVEN)
        assert verdict(page) in "0123456789"
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert page.locator("#paper").bounding_box()["width"] > 250  # type: ignore[index]
        assert record.complaints == [] and all(one.startswith(small) for one in record.requests)


def test_a_finger_draws_and_does_not_scroll(browser: Browser, small: str) -> None:
    with opened(browser, viewport={"width": 400, "height": 500}, has_touch=True, is_mobile=True) as (page, record):
        page.goto(small)
        box = page.locator("#paper").bounding_box()
        assert box is not None
        session = page.context.new_cdp_session(page)
        for step in range(8):
            point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] * (0.2 + 0.08 * step)}
            session.send(
                "Input.dispatchTouchEvent", {"type": "touchMove" if step else "touchStart", "touchPoints": [point]}
            )
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        assert verdict(page) in "0123456789"
        assert page.evaluate("window.scrollY") == 0
        assert record.complaints == []


def test_what_is_no_picture_is_told(browser: Browser, small: str, tmp_path: Path) -> None:
    (tmp_path / "seven.png").write_text("seven")
    Image.new("L", (50, 50), 255).save(tmp_path / "blank.png")
    with opened(browser) as (page, _):
        page.goto(small)
        page.set_input_files("#file", tmp_path / "seven.png")
        expect(page.locator("#verdict")).to_have_text("seven.png is no picture that this browser can show.")
        page.set_input_files("#file", tmp_path / "blank.png")
        expect(page.locator("#verdict")).to_contain_text("must show a digit, got a blank picture")
        page.keyboard.press("Escape")
        expect(page.locator("#verdict")).to_have_text("Draw with mouse, pen or finger.")


def test_a_server_that_has_gone_is_told(browser: Browser, tmp_path: Path) -> None:
    folder = trained(tmp_path / "small", ["model=mlp"], max_epochs=1)
    with opened(browser) as (page, _):
        with serving.server(folder) as (url, _):
            page.goto(url)
        draw(page, SEVEN)
        expect(page.locator("#verdict")).to_have_text("The server does not answer; is it still running?")


def test_the_openapi_page_asks_nobody_else(browser: Browser, small: str) -> None:
    with opened(browser) as (page, record):
        page.goto(f"{small}/docs")
        page.get_by_text("/predict", exact=True).first.click()
        expect(page.get_by_text("Read one image or many.").first).to_be_visible()
        assert record.complaints == [] and all(one.startswith((small, "data:")) for one in record.requests)
