"""What the doctor found."""

from collections.abc import Sequence
from typing import Any

from search.show.text import rows, text_table


def findings(found: Sequence[Any], format_: str) -> str:
    """What the doctor found: a line for each check, and below those that are not well what to do."""
    if format_ != "table":
        return rows(
            [{"code": f.code, "state": f.state.value, "found": f.found, "to_do": f.to_do} for f in found], format_
        )
    lines = []
    for finding in found:
        lines.append((finding.state.value, finding.code, finding.found))
        if finding.to_do:
            lines.append(("", "", f"-> {finding.to_do}"))
    return text_table(("state", "code", "found"), lines)
