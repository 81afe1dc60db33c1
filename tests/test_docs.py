"""What README and documentation show is run; what is written from the code is current; the site is whole.

A comment above a block says how it is run, where it is not run as it stands:

    <!-- run with: OLD => NEW; OLD => NEW -->    so, because it takes long, or a network
    <!-- file: NAME -->                          it is written to a file
    <!-- fails with: 2 -->                       it ends with this exit code
    <!-- until Ctrl-C -->                        it listens until it is interrupted
    <!-- picture: NAME -->                       there is a picture of that name
    <!-- not run: needs a cluster -->            not at all
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import pytest
import typer
from browser import chromium, opened
from nbclient import NotebookClient
from PIL import Image

from benchmarks.serving import picture
from search import Outcome, load_study
from search.command import app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(path for path in DOCS.rglob("*.md") if path.parent.name != "reference")]
MARKS = ("run with", "file", "fails with", "until Ctrl-C", "meanwhile", "picture", "not run")
TUTORIAL = DOCS / "tutorial.md"


@dataclass(frozen=True)
class Block:
    """A fenced block and what stands above it."""

    language: str
    text: str
    marks: dict[str, str]

    @property
    def typed(self) -> str:
        """As it is run."""
        text = self.text
        for change in filter(None, self.marks.get("run with", "").split("; ")):
            old, new = change.split(" => ")
            assert old in text, f"{old!r} is not in the block"
            text = text.replace(old, new)
        return text


def blocks(page: Path) -> Iterator[Block]:
    for found in re.finditer(r"((?:^<!-- [^\n]* -->\n)*)^```(\w*)\n(.*?)^```$", page.read_text(), re.S | re.M):
        marks = {}
        for comment in re.findall(r"<!-- (.*) -->", found[1]):
            pieces = re.split(rf"; (?=(?:{'|'.join(MARKS)}))", comment) if comment.startswith("until") else [comment]
            said = {piece.partition(": ")[0]: piece.partition(": ")[2] for piece in pieces}
            assert not marks.keys() & said, f"{comment!r} stands above the block twice"
            marks |= said
        assert set(marks) <= set(MARKS), marks
        yield Block(found[2], found[3], marks)


def needs_mnist(page: Path) -> bool:
    return "$DIGITSEARCH_MNIST" in page.read_text()


def parameters() -> list[object]:
    return [
        pytest.param(page, id=str(page.relative_to(ROOT)), marks=[pytest.mark.mnist] if needs_mnist(page) else [])
        for page in PAGES
        if any("not run" not in block.marks for block in blocks(page))
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a reader would stand: a checkout that has been set up."""
    for name in ("Makefile", "pyproject.toml", "requirements.txt"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (tmp_path / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    (tmp_path / ".venv" / "ready").touch()
    (tmp_path / "digit.png").write_bytes(picture(280))
    return tmp_path


def shapes(folder: Path) -> None:
    """Pictures by class: bars that stand, and bars that lie."""
    random = np.random.default_rng(0)
    for number in range(40):
        grey = np.full((20, 20), 255, np.uint8)
        grey[4:16, 8:12] = random.integers(0, 90, (12, 4))
        for name, pixels in (("standing", grey), ("lying", grey.T)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def shell(text: str, folder: Path) -> "subprocess.Popen[str]":
    paths = os.pathsep.join([str(folder / ".venv" / "bin"), os.environ["PATH"]])
    environment = {**os.environ, "PATH": paths, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    command = ["bash", "-ec", text]
    return subprocess.Popen(command, cwd=folder, env=environment, text=True, stdout=-1, stderr=subprocess.STDOUT)


@pytest.mark.ray
@pytest.mark.parametrize("page", parameters())
def test_what_a_page_shows_runs(page: Path, folder: Path, finished: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    if needs_mnist(page) and "DIGITSEARCH_MNIST" not in os.environ:
        pytest.skip("DIGITSEARCH_MNIST doesn't name a folder with MNIST's four .gz files")
    if page not in (TUTORIAL, ROOT / "README.md"):  # a page of its own begins where a search has ended
        shutil.copytree(finished.run_directory, folder / "runs" / "quickstart")
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps({"CPU": 1}))  # a slot takes seconds to start
    shapes(folder / "shapes")
    for block in blocks(page):
        if "not run" not in block.marks:
            RUNNERS[block.language](block, folder)


def run_shell(block: Block, folder: Path) -> None:
    if "until Ctrl-C" in block.marks:
        run_server(block, folder)
        return
    process = shell(block.typed, folder)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == int(block.marks.get("fails with", 0)), said
    assert "Traceback" not in said


def run_server(block: Block, folder: Path) -> None:
    process = shell(f"exec {block.typed}", folder)
    assert process.stdout is not None
    said = next((line for line in process.stdout if line.startswith("Ctrl-C ends")), None)
    assert said, f"{block.typed} must listen"
    if meanwhile := block.marks.get("meanwhile"):
        subprocess.run(["bash", "-ec", meanwhile], cwd=folder, check=True, timeout=60, capture_output=True)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode == 130


def run_python(block: Block, folder: Path) -> None:
    if "file" in block.marks:
        (folder / block.marks["file"]).write_text(block.text)
        return
    (folder / "shown.py").write_text(block.text)
    process = shell("python shown.py", folder)
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and said.strip(), said


def check_study(block: Block, folder: Path) -> None:
    path = folder / block.marks.get("file", "shown.yaml")
    path.write_text(block.text)
    if "file" not in block.marks:  # else a command reads it
        load_study(str(path))


def shown_only(block: Block, folder: Path) -> None:
    """Text is what something prints, or what is run in another block's marks."""


RUNNERS: dict[str, Callable[[Block, Path], None]] = {
    "sh": run_shell,
    "python": run_python,
    "yaml": check_study,
    "text": shown_only,
}


def test_nothing_is_left_out_for_another_reason_than_a_cluster() -> None:
    every = [(page, block) for page in PAGES for block in blocks(page)]
    assert {block.language for _, block in every} <= set(RUNNERS)
    left_out = [block for _, block in every if "not run" in block.marks]
    assert {block.marks["not run"] for block in left_out} == {"needs a cluster"}
    assert len(every) - len(left_out) >= 40 and len(left_out) <= 12
    for page, block in every:
        if block.language == "text":
            shown = block.text.strip()
            assert any(shown.partition(" ")[0] in other.marks.get("meanwhile", "") for _, other in every), (page, shown)
    # A command that stands outside of a block would be run by nobody.
    for page in PAGES:
        outside = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
        assert not re.findall(r"^ {4}(?:\$ )?(?:digitsearch|make|ray|python|pip) .*$", outside, re.M), page


def test_verbs_and_options_in_the_text_exist() -> None:
    group = typer.main.get_command(app)
    verbs = {name: {word for p in verb.params for word in p.opts} for name, verb in group.commands.items()}  # type: ignore[attr-defined]
    named = 0
    for page in PAGES:
        for verb, rest in re.findall(r"`digitsearch\s+([a-z]+)([^`]*)`", page.read_text()):
            assert verb in verbs, f"{page}: {verb}"
            assert set(re.findall(r"(?<=\s)--[a-z-]+", rest)) <= verbs[verb] | {"--help"}, f"{page}: {verb}{rest}"
            named += 1
    assert named > 20


def test_the_reference_is_what_the_code_says(tmp_path: Path) -> None:
    subprocess.run([sys.executable, DOCS / "write_reference.py", tmp_path], check=True, cwd=ROOT)
    made = {path.relative_to(tmp_path): path.read_text() for path in tmp_path.rglob("*.*")}
    assert len(made) == 9
    stale = [str(path) for path, text in made.items() if (DOCS / path).read_text() != text]
    assert not stale, "`make reference` writes them anew"
    assert {path.name for path in (DOCS / "reference").iterdir()} == {p.name for p in made if p.parent.name}


def test_the_site_is_built_strictly_and_asks_nobody_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    # The page for what is not there is shown at any depth: it names its parts from the root of a server.
    pages = [page for page in (tmp_path / "site").rglob("*.html") if page.name != "404.html"]
    assert len(pages) >= 25
    with (
        chromium() as browser,
        opened(browser) as (tab, record),
    ):  # for this test alone: another one needs the event loop
        for page in pages:
            tab.goto(page.as_uri())
        assert record.complaints == [] and all(asked.startswith("file:") for asked in record.requests)


def test_the_notebook_runs_on_a_run(finished: Outcome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUN", str(finished.run_directory))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(DOCS / "explore.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), (
        "it is kept without outputs: they would be of one run"
    )
    NotebookClient(notebook, timeout=120).execute()
    shown = [cell for cell in notebook.cells if cell.cell_type == "code"]
    results = [[one["data"]["text/plain"] for one in cell["outputs"] if "data" in one] for cell in shown]
    assert all(results)
    assert results[-1][0].startswith(f"({finished.run.best().number}, ")  # type: ignore[union-attr]
