"""Takes docs/pictures: Ray's dashboard as it is while a real search runs, on a cluster of its own on this machine.

python docs/take_pictures.py     a minute or two; needs Chromium (on Debian: apt-get install chromium)
"""

import asyncio
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from base64 import b64decode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path

import aiohttp
import requests
from PIL import Image

ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
WIDTH = 1280
PATIENCE_S = 60  # for ten trials, and for a page to show what its picture is of
# The latest lines of a log first: an early one tells where this machine's home folder is.
LATEST_FIRST = "document.querySelector('.MuiSwitch-input').click()"


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
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    holder = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **streams)
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


class Page:
    """A page of a browser, by the DevTools protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count()

    async def ask(self, method: str, **parameters: object) -> dict:
        """What the browser answers."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while (answer := await self._socket.receive_json()).get("id") != number:
            pass  # news that nobody asked for
        return answer["result"]

    async def run(self, script: str) -> object:
        """The value of some JavaScript."""
        return (await self.ask("Runtime.evaluate", expression=script))["result"].get("value")

    async def wait_for(self, words: str) -> None:
        """Until the page says them."""
        deadline = time.monotonic() + PATIENCE_S
        while words not in (said := str(await self.run("document.body.innerText"))):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the page must say {words!r} within {PATIENCE_S} s, got {said!r}")
            await asyncio.sleep(0.5)

    async def picture(self, url: str, height: int, words: str, script: str = "", then: str = "") -> Image.Image:
        """Of a page, once it says `words`, and after the script has run, `then`."""
        size = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
        await self.ask("Emulation.setDeviceMetricsOverride", **size)
        await self.ask("Page.navigate", url="about:blank")  # else a change after the # is no new page
        await self.ask("Page.navigate", url=url)
        await self.wait_for(words)
        await self.run(script)
        await self.wait_for(then)
        await asyncio.sleep(2)  # what moves has come to rest
        return Image.open(io.BytesIO(b64decode((await self.ask("Page.captureScreenshot"))["data"])))


@asynccontextmanager
async def browser(chromium: str, folder: Path) -> AsyncIterator[Page]:
    """A page of a Chromium that listens on loopback."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # root can have none
    options = ["--headless", "--hide-scrollbars", "--remote-debugging-port=0", f"--user-data-dir={folder}", *sandbox]
    process = subprocess.Popen([chromium, *options], stderr=subprocess.PIPE, text=True)
    try:
        said = next(line for line in process.stderr if "DevTools listening" in line)
        there = re.search(r"127\.0\.0\.1:\d+", said)[0]
        pages = requests.get(f"http://{there}/json/list", timeout=10).json()
        address = next(page["webSocketDebuggerUrl"] for page in pages if page["type"] == "page")
        # A picture is a long message.
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.communicate()


async def take(dashboard: str, job: str, chromium: str, folder: Path) -> None:
    """All pictures. The job's page comes last: it makes Ray start an actor of its own, for data sets."""
    async with browser(chromium, folder) as page:
        pictures = {
            "ray-jobs": await page.picture(f"{dashboard}/#/jobs", 640, "RUNNING"),
            "ray-actors": await page.picture(f"{dashboard}/#/actors", 640, "ALIVE\nx 3"),
            "ray-job": await page.picture(f"{dashboard}/#/jobs/{job}", 1000, "trial 0", LATEST_FIRST, "best so far"),
        }
    PICTURES.mkdir(exist_ok=True)
    for name, picture in pictures.items():
        picture.convert("RGB").quantize(128).save(PICTURES / f"{name}.png", optimize=True)  # a third of the bytes


def main() -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.stderr.write("no pictures taken: Chromium must be installed (on Debian: apt-get install chromium)\n")
        return
    # Short: Ray's sockets lie below it, and their names may have 107 characters.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as home, cluster(Path(home)) as dashboard:
        job = submit(dashboard)
        asyncio.run(take(dashboard, job, chromium, Path(home) / "browser"))


if __name__ == "__main__":
    main()
