"""Writes docs/reference and docs/study.schema.json from the code: `make reference`; a test holds them to be current.

python docs/write_reference.py [FOLDER]     into another folder than docs
"""

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from results import events, tables, words  # noqa: E402
from search import command, schema  # noqa: E402
from search.doctor.finding import CHECKS  # noqa: E402
from spaces import DIGITS, DIGITS_PARAMETERS, Choice, Parameter  # noqa: E402
from spaces.digits import MEANINGS  # noqa: E402
from trainables.digits import DEFAULTS  # noqa: E402

_SOURCES = ("search", "spaces", "trainables", "cluster", "results")
_READ = r"""os\.environ(?:\.get\(|\[)\s*"([A-Z0-9_]+)\""""
# By Ray and by the libraries of the providers, for us; or by a name that is not spelled out where it is read.
_READ_ELSEWHERE = {"RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "AWS_ACCESS_KEY_ID",
                   "AWS_SECRET_ACCESS_KEY", "GOOGLE_APPLICATION_CREDENTIALS"}  # fmt: skip
_VARIABLES = {
    "AWS_ACCESS_KEY_ID": "Who reads and writes `s3://…`; an instance's role or the AWS files do as well.",
    "AWS_SECRET_ACCESS_KEY": "The key that goes with it. No address, log or message of ours holds one.",
    "AWS_ENDPOINT_URL": "Another server that speaks S3, for `s3://…`.",
    "AWS_ENDPOINT_URL_S3": "The same, and stronger.",
    "AZURE_STORAGE_ACCOUNT": "The account of `az://…`.",
    "AZURE_STORAGE_KEY": "Its key; without one, the identity of the machine.",
    "GOOGLE_APPLICATION_CREDENTIALS": "Who reads and writes `gs://…`.",
    "HOME": "What `~` in a study means, and where Ray's token lies; `/` where the user has none.",
    "RAY_ADDRESS": "The cluster that `run`, `resume` and `plan` join; for the verbs of jobs, its dashboard.",
    "RAY_API_SERVER_ADDRESS": "The dashboard of the cluster, for `submit`, `jobs`, `logs`, `stop` and `status JOB`.",
    "RAY_AUTH_MODE": "`token` or `disabled`; where it is not set, a cluster that asks for a token is sent it.",
    "RAY_AUTH_TOKEN": "The token itself.",
    "RAY_AUTH_TOKEN_PATH": "A file that holds it; by default `~/.ray/auth_token`.",
    "XDG_CACHE_HOME": "Where `digitsearch/precision.json` lies, what a machine's bf16 is worth; else `~/.cache`.",
}

_MADE = "<!-- Written by docs/write_reference.py; `make reference` writes it anew. -->\n"


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines) + "\n"


def study_file() -> str:
    """Every key of a study file, from its JSON Schema."""
    said = json.loads(schema.schema_text())
    sections = [(name, about) for name, about in said["properties"].items() if _section_of(about, said)]
    plain = [(name, about) for name, about in said["properties"].items() if not _section_of(about, said)]
    parts = [
        "# Study file",
        _MADE,
        "One search, as YAML. Every key may be left out; `digitsearch validate FILE` checks a file and prints it with "
        "every default written out, and `digitsearch init` writes one to start from. `--set budget.trials=5` overrides "
        "a value on the command line. Editors that know JSON Schema take "
        "[study.schema.json](../study.schema.json), which this page is made from.",
        table(("key", "type", "default", "meaning"), list(_rows(plain, said))),
    ]
    for name, about in sections:
        for section in _section_of(about, said):
            what = _choice(section)
            parts += [
                f"## `{name}`{what}",
                section.get("description", ""),
                table(("key", "type", "default", "meaning"), list(_rows(section["properties"].items(), said))),
            ]
    return "\n\n".join(parts)


def _choice(section: Mapping[str, Any]) -> str:
    """Which of several kinds of section it is, by the name in it."""
    name = section["properties"].get("name", {})
    return f" with `name: {name['const']}`" if "const" in name else ""


def _section_of(about: Mapping[str, Any], said: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The sections that a key may hold."""
    by_name = about.get("additionalProperties")  # of a mapping of names to sections
    kinds = [about, *about.get("anyOf", ()), *about.get("oneOf", ()), *([by_name] if isinstance(by_name, dict) else [])]
    found = [said["$defs"][kind["$ref"].rpartition("/")[2]] for kind in kinds if "$ref" in kind]
    return [section for section in found if "properties" in section]


def _rows(keys: Any, said: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    for name, about in keys:
        default = "" if "default" not in about else f"`{json.dumps(about['default'])}`"
        yield f"`{name}`", _kind(about, said), default, about.get("description", "")


def _kind(about: Mapping[str, Any], said: Mapping[str, Any]) -> str:
    """What a value must be, in words."""
    if "$ref" in about:
        about = said["$defs"][about["$ref"].rpartition("/")[2]]
    if several := about.get("anyOf") or about.get("oneOf"):
        return ", or ".join(dict.fromkeys(_kind(one, said) for one in several))
    if "enum" in about or "const" in about:
        return " or ".join(f"`{value}`" for value in about.get("enum", [about.get("const")]))
    if examples := about.get("examples"):
        return f"text like `{examples[0]}`"
    if about.get("type") == "array":
        items = _kind(about.get("items", {}), said)
        return f"a list of {'mappings' if items == 'a section' else items}"
    if about.get("type") == "object":
        section = ", ".join(f"`{name}`" for name in about.get("properties", {}))
        return f"a section: {section}" if section else "a section"
    words_for = {"integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false"}
    return words_for.get(about.get("type", ""), "null" if about.get("type") == "null" else "anything") + _bounds(about)


def _bounds(about: Mapping[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    found = [f"{sign} {about[key]:g}" for key, sign in signs.items() if key in about]
    return f" {' and '.join(found)}" if found else ""


def digits() -> str:
    """Every parameter of the workload digits: what it is, where it is searched, its default and limits."""
    rows = []
    for name, parameter in DIGITS_PARAMETERS.parameters.items():
        of = [f" Only with `{other}` {' or '.join(map(_yaml, values))}." for other, values in parameter.when.items()]
        searched = _searched(DIGITS.parameters[name]) if name in DIGITS else ""
        limits = "" if isinstance(parameter, Choice) else f"{parameter.low:g} to {parameter.high:g}"
        rows.append((f"`{name}`", f"`{_yaml(DEFAULTS[name])}`", searched, limits, MEANINGS[name] + "".join(of)))
    about = (
        "What a trial of `workload: digits` may be told. `space: digits` searches the ranges below. A space of your "
        "own may have fewer parameters, and other ranges within the limits; what it leaves out has the default, which "
        "is also what `digitsearch train` starts from (`--set width=12` there)."
    )
    headings = ("parameter", "default", "searched", "limits", "meaning")
    return "\n\n".join(["# The workload digits", _MADE, about, table(headings, rows)])


def _searched(parameter: Parameter) -> str:
    if isinstance(parameter, Choice):
        return ", ".join(map(_yaml, parameter.options))
    return f"{parameter.low:g} to {parameter.high:g}{', in the logarithm' if parameter.log else ''}"


def _yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def verbs() -> str:
    """Every verb with its arguments and options, from their help."""
    group = typer.main.get_command(command.app)
    parts = [
        "# Verbs",
        _MADE,
        "`digitsearch VERB`, or `python -m search VERB`. What was asked for goes to standard output, everything else "
        "to standard error; [exit codes](exit-codes.md) say how it ended. `--format json` and `--format csv` are for "
        "programs.",
    ]
    for name, verb in group.commands.items():  # type: ignore[attr-defined]
        context = typer.Context(verb, info_name=name)
        arguments = [p for p in verb.params if p.param_type_name == "argument"]
        options = [p for p in verb.params if p.param_type_name == "option"]
        usage = " ".join(["digitsearch", name, *(_argument(p) for p in arguments), *(["[OPTIONS]"] if options else [])])
        parts += [f"## {name}", inspect.cleandoc(verb.help or ""), f"`{usage}`"]
        rows = [(f"`{_argument(p)}`", getattr(p, "help", None) or "") for p in arguments]
        for option in options:
            said, how = option.get_help_record(context) or ("", "")
            rows.append((f"`{said}`", how))
        if rows:
            parts.append(table(("", "meaning"), rows))
    return "\n\n".join(parts)


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    return str(name) if parameter.required else f"[{name}]"


def data_dictionary() -> str:
    """Every column of the tables, from what is declared beside their schema."""
    parts = [
        "# Tables",
        _MADE,
        "A run directory holds two Parquet files. Both open at every moment: while the search goes on, after a kill, "
        "after the end. What is said here of a column is also in the file, as the metadata of its field.",
    ]
    for name, about, columns in (
        ("trials.parquet", "One row a trial that has started, by number.", tables.TRIALS),
        ("epochs.parquet", "One row a report, by trial and epoch.", tables.EPOCHS),
    ):
        rows = [(f"`{c.name}`", _column_type(c), c.meaning, c.unit, c.null) for c in columns]
        parts += [f"## {name}", about, table(("column", "type", "meaning", "unit", "null"), rows)]
    for title, meanings in (
        ("Values of `state`", words.STATES),
        ("Values of `stop_reason`", words.STOP_REASONS),
        ("Values of `error_kind`", words.ERROR_KINDS),
    ):
        parts += [f"## {title}", _meanings("value", meanings)]
    return "\n\n".join(parts)


def _column_type(column: tables.Column) -> str:
    return str(column.kind) if column.kind is not None else "that of its values"


def _meanings(heading: str, meanings: Mapping[str, str]) -> str:
    return table((heading, "meaning"), [(f"`{name}`", meaning) for name, meaning in meanings.items()])


def log() -> str:
    """Every event of the log, from what the reader of a log checks."""
    parts = [
        "# The log",
        _MADE,
        "`events/log.jsonl` in a run directory, one JSON object a line, is only ever appended to; a run in shared "
        "storage has it in several objects whose names order them. Everything else is made from it. Each line has "
        "`event` and `at` (UTC, ISO 8601), and:",
    ]
    for name, fields in events.FIELDS.items():
        listed = ", ".join(f"`{field}` ({events.called(kind)})" for field, kind in fields.items())
        parts += [f"## {name}", events.MEANINGS[name], f"Fields: {listed}."]
    parts += ["## Values of `reason` in study_ended", _meanings("reason", words.END_REASONS)]
    return "\n\n".join(parts)


def exit_codes() -> str:
    """Every exit code, with the exceptions that end in it."""
    by_code: dict[int, list[str]] = {}
    for kind, code in command.EXIT_CODES.items():
        by_code.setdefault(code, []).append(inspect.cleandoc(kind.__doc__ or "").splitlines()[0].rstrip("."))
    rows = [("0", "What was asked for was done.")]
    rows += [(str(code), "; ".join(dict.fromkeys(by_code[code])) + ".") for code in sorted(by_code)]
    rows += [("130", "Ctrl-C; a search ended in good order, and can be resumed."), ("143", "SIGTERM; the same.")]
    return "\n\n".join(["# Exit codes", _MADE, table(("code", "meaning"), rows)])


def environment_variables() -> str:
    """Every variable that is read, from where they are named."""
    sources = [path.read_text(encoding="utf-8") for folder in _SOURCES for path in (ROOT / folder).rglob("*.py")]
    read = sorted({name for source in sources for name in re.findall(_READ, source)} | _READ_ELSEWHERE)
    rows = [(f"`{name}`", _VARIABLES[name]) for name in read]
    parts = ["# Environment variables", _MADE, "Nothing has to be set.", table(("variable", "meaning"), rows)]
    return "\n\n".join(parts)


def doctor() -> str:
    """Every code of the doctor."""
    rows = [(f"`{check.code}`", check.holds, check.to_do) for check in CHECKS.values()]
    about = (
        "`digitsearch doctor` looks at what a search stands on. Each line has a code, a state (`ok`; `warning`: a "
        "search runs, but slower or otherwise than is meant; `fault`: it does not run, or breaks off) and what was "
        "found. With a fault the exit code is 1."
    )
    return "\n\n".join(["# Doctor", _MADE, about, table(("code", "what must hold", "what to do"), rows)])


PAGES = {
    "study-file.md": study_file,
    "digits.md": digits,
    "verbs.md": verbs,
    "tables.md": data_dictionary,
    "log.md": log,
    "exit-codes.md": exit_codes,
    "environment-variables.md": environment_variables,
    "doctor.md": doctor,
}


def main(folder: Path) -> None:
    """Write all of it."""
    (folder / "reference").mkdir(parents=True, exist_ok=True)
    (folder / "study.schema.json").write_text(schema.schema_text(), encoding="utf-8")
    for name, made in PAGES.items():
        (folder / "reference" / name).write_text(made().rstrip("\n") + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "docs")
