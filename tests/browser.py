"""A real browser that reaches this machine alone, and keeps a record of what pages ask for and complain of."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, Route, sync_playwright

# In the background a browser would look for its maker's servers.
_ALONE = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
          "--disable-component-update", "--disable-sync"]  # fmt: skip


@dataclass
class Record:
    """What a page did: the addresses that it asked for, and what stood in its console as warning or error."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless Chromium; the test is skipped on a machine that has none."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs a browser: Debian's package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=_ALONE)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Browser, **settings: Any) -> Iterator[tuple[Page, Record]]:
    """An empty page of its own session; `settings` as for `Browser.new_context` (viewport, color_scheme, …)."""
    context = browser.new_context(**settings)
    page, record = context.new_page(), Record()

    def keep(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            record.complaints.append(message.text)

    def note(request: Request) -> None:
        record.requests.append(request.url)

    def refuse(route: Route) -> None:
        if urlsplit(route.request.url).hostname in (None, "127.0.0.1", "localhost"):
            route.continue_()
        else:
            route.abort()

    page.on("console", keep)
    page.on("pageerror", lambda error: record.complaints.append(str(error)))
    page.on("request", note)
    context.route("**/*", refuse)
    yield page, record
    context.close()
