"""What the README says is so."""

import re
import subprocess
from pathlib import Path

from search import load_study

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.S)


def test_the_study_file_of_ten_lines_is_valid_and_has_ten_lines(tmp_path: Path) -> None:
    (text,) = [block for block in blocks("yaml") if "learning_rate_adam" in block]
    assert len(text.splitlines()) == 10
    (tmp_path / "s.yaml").write_text(text)
    study = load_study(str(tmp_path / "s.yaml"))
    assert study.budget.trials == 20 and study.budget.wall == 600


def test_every_target_of_make_is_in_its_help() -> None:
    listed = subprocess.run(
        ["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    bare = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    assert bare == listed and targets == [line.split()[0] for line in listed.splitlines()]
    assert all(len(line.split()) > 2 for line in listed.splitlines())


def test_every_folder_in_the_readme_exists() -> None:
    section = README.split("## The folders")[1].split("\n## ")[0]
    folders = re.findall(r"^    ([a-z]+) +\S", section, re.M)
    assert folders == ["search", "spaces", "trainables", "cluster", "results", "tests", "benchmarks", "docs"]
    assert all((ROOT / folder).is_dir() for folder in folders)
