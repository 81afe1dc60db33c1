"""The folders are the architecture: a star, with `search` in the middle."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LEAVES = ("spaces", "trainables", "cluster", "results")


def imported(folder: str) -> set[str]:
    """The top-level names that a folder's modules import, at their top or inside a function."""
    found = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("leaf", LEAVES)
def test_a_leaf_imports_neither_search_nor_another_leaf(leaf: str) -> None:
    assert imported(leaf) & {"search", *LEAVES} <= {leaf}


def test_search_imports_all_leaves() -> None:
    assert set(LEAVES) <= imported("search"), "the star has lost a leaf, or this test can't see imports"


@pytest.mark.parametrize("folder", ["spaces", "trainables", "results"])
def test_ray_and_optuna_stay_where_they_belong(folder: str) -> None:
    assert not imported(folder) & {"ray", "optuna"}


def test_no_print_and_no_pickle() -> None:
    sources = {path: path.read_text() for folder in (*LEAVES, "search") for path in (ROOT / folder).rglob("*.py")}
    for path, text in sources.items():
        # `unpickled` words in prose are fine; an import or a call is not.
        assert not re.search(r"^\s*(import pickle|from pickle)|\btorch\.(load|save)\(|(?<![.\w])print\(", text, re.M), (
            path
        )


@pytest.mark.parametrize("words", [["--help"], ["trials", "nowhere"]])
def test_help_and_reading_import_no_more_than_they_need(words: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['digitsearch', *{words}]\n"
        "from search.command import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "unneeded = {'torch', 'ray', 'optuna', 'numpy', 'pandas', 'pyarrow', 'altair', 'jinja2', 'pydantic'}\n"
        "unneeded |= {'search.study', 'search.runs'}\n"
        "assert not unneeded & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


@pytest.mark.parametrize(
    ("modules", "unneeded"),
    [
        pytest.param("trial.actor", "search.study search.engine search.suggest optuna torch", id="a trial's"),
        pytest.param("runs classifier checkpoints dispatch engine metrics winner", "torch", id="a driver's"),
    ],
)
def test_a_process_leaves_to_others_what_they_are_for(modules: str, unneeded: str) -> None:
    code = (
        f"import sys, {', '.join(f'search.{module}' for module in modules.split())}\n"
        f"assert not set({unneeded.split()}) & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)
