"""The JSON Schema of a study file, for editors: `python -m search.schema FILE` writes it."""

import json
import sys
from pathlib import Path

from search.study import Study


def schema_text() -> str:
    """The schema as it is published in docs/study.schema.json."""
    return json.dumps(Study.model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(schema_text(), encoding="utf-8")
