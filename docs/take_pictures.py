"""Takes docs/pictures: real pages, of real searches, in a real browser.

python docs/take_pictures.py             all of them, some minutes; needs Chromium (Debian's package chromium)
python docs/take_pictures.py report      some of them: report, dashboard, draw, ray
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from test_serve_page import THREE, draw  # noqa: E402

from benchmarks import mnist, serving  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
PATIENCE_S = 60  # for ten trials, and for a page to show what its picture is of


@contextmanager
def page_of(browser: Browser, width: int, height: int, scheme: str = "light") -> Iterator[Page]:
    """An empty page that waits as long as a loaded machine needs."""
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    context.set_default_timeout(1000 * PATIENCE_S)
    yield context.new_page()
    context.close()


def keep(page: Page, name: str) -> None:
    """Write what the page shows, once what moves has come to rest."""
    page.wait_for_timeout(2000)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    PICTURES.mkdir(exist_ok=True)
    picture.quantize(128).save(PICTURES / f"{name}.png", optimize=True)  # a third of the bytes


def digitsearch(*words: str) -> None:
    """Type a command."""
    subprocess.run([sys.executable, "-m", "search", *words], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def searched(folder: Path) -> Path:
    """The run directory of a quickstart."""
    digitsearch("run", "quickstart", f"--set=output={folder}")
    return folder / "quickstart"


def take_report(browser: Browser, run: Path) -> None:
    """The report's first page, in both themes."""
    digitsearch("report", str(run))
    for scheme, name in (("light", "report"), ("dark", "report-dark")):
        with page_of(browser, 1100, 1250, scheme) as page:
            page.goto((run / "report.html").as_uri())
            page.get_by_text("Best so far over the trials").first.wait_for()
            keep(page, name)


def take_dashboard(browser: Browser, run: Path) -> None:
    """optuna-dashboard's page of the study."""
    from search.dashboard import dashboard

    with dashboard(run, "127.0.0.1", 0) as server, page_of(browser, 1280, 900) as page:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page.goto(server.url)
        page.get_by_text("Hyperparameter Importance").first.wait_for()
        keep(page, "dashboard")


def take_draw(browser: Browser, folder: Path) -> None:
    """A three, drawn on the page of a served model."""
    options = ["--data=mnist", f"--dir={mnist.folder()}", "--epochs=1", f"--out={folder / 'models' / 'mnist'}"]
    digitsearch("train", *options)
    with serving.server(folder / "models" / "mnist") as (url, _), page_of(browser, 900, 620) as page:
        page.goto(url)
        page.evaluate("facts.model = 'models/mnist'; describe()")  # not where this machine keeps it
        draw(page, THREE)
        page.locator("li.best").wait_for()
        keep(page, "draw")


@contextmanager
def cluster(home: Path) -> Iterator[str]:
    """Two slots on loopback, with a home folder for the job's run: the dashboard's address."""
    environment = os.environ | {
        "HOME": str(home),
        "RAY_TMPDIR": str(home),
        "RAY_AUTH_MODE": "disabled",  # nobody else gets there
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # Ray's only way to listen on loopback alone (2.60)
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }
    command = [sys.executable, "-m", "tests.several_nodes", "2"]
    holder = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdin=-1, stdout=-1, stderr=subprocess.DEVNULL
    )
    assert holder.stdout is not None
    try:
        yield json.loads(holder.stdout.readline())["dashboard"]
    finally:
        holder.communicate("", timeout=60)


def submit(dashboard: str) -> str:
    """A search that has trained some trials: its job's id."""
    words = ["submit", "quickstart", "--address", dashboard, "--set=budget.trials=200", "--set=budget.wall=5m"]
    environment = os.environ | {"RAY_AUTH_MODE": "disabled"}
    typed = subprocess.run(
        [sys.executable, "-m", "search", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    job = typed.stdout.split()[1].rstrip(";")
    deadline = time.monotonic() + PATIENCE_S
    while requests.get(f"{dashboard}/api/jobs/{job}/logs", timeout=10).json()["logs"].count("best so far") < 10:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{job} must train ten trials within {PATIENCE_S} s")
        time.sleep(1)
    return job


def take_ray(browser: Browser) -> None:
    """Ray's pages of a search. The job's comes last: it makes Ray start an actor of its own, for data sets."""
    # Short: Ray's sockets lie below it, and their names may have 107 characters.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as home, cluster(Path(home)) as dashboard:
        job = submit(dashboard)
        for name, at, height, words in (
            ("ray-jobs", "jobs", 640, "RUNNING"),
            ("ray-actors", "actors", 640, "ALIVE"),
            ("ray-job", f"jobs/{job}", 1000, "trial 0"),
        ):
            with page_of(browser, 1280, height) as page:
                page.goto(f"{dashboard}/#/{at}")
                page.get_by_text(words).first.wait_for()
                if name == "ray-job":  # the latest first: an early line tells where this machine's home folder is
                    page.locator(".MuiSwitch-input").first.click()
                    page.get_by_text("best so far").first.wait_for()
                keep(page, name)


def main(names: list[str]) -> None:
    """Take the pictures of these names."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no pictures taken: Chromium must be installed (on Debian: apt-get install chromium)")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # root can have none
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        folder = Path(scratch)
        if {"report", "dashboard"} & set(names):
            run = searched(folder)
            if "report" in names:
                take_report(browser, run)
            if "dashboard" in names:
                take_dashboard(browser, run)
        if "draw" in names:
            take_draw(browser, folder)
        if "ray" in names:
            take_ray(browser)


if __name__ == "__main__":
    main(sys.argv[1:] or ["report", "dashboard", "draw", "ray"])
