"""What is trained on."""

import os
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, Tag, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from search import references
from search.study.section import Section
from spaces.errors import shown

# No shell puts one's home in the place of `~` where it stands in a file.
_Path = Annotated[str, AfterValidator(os.path.expanduser)]


class DataSection(Section):
    """What is trained on."""

    dataset: _Path = Field("optdigits", description="A known data set, or the path of a folder of images.")
    dir: _Path = Field("data", description="Where prepared data sets lie.")
    validation: int | float = Field(0.15, description="Validation images: a number, or a share below 1.")
    split_seed: int = Field(0, ge=0, description="Decides which training images are for validation.")

    @field_validator("validation")
    @classmethod
    def _some_but_not_all(cls, value: int | float) -> int | float:
        if not (0 < value < 1 or (isinstance(value, int) and value >= 1)):
            raise PydanticCustomError("validation", "must be a number of images >= 1 or a share between 0 and 1")
        return value


def _reference(value: object) -> object:
    if not references.is_reference(value):
        must = "must be a mapping like {dataset: mnist}, package.module:name or null"
        held = "" if isinstance(value, str) else "; what a program has in memory it gives by a function: lambda: data"
        raise PydanticCustomError("together", "{m}", {"m": f"data {must}, got {shown(value)}{held}"})
    return value


def _kind(value: object) -> str:
    return _NONE if value is None else _SECTION if isinstance(value, dict | DataSection) else _REFERENCE


# A union says its members' names where it says where a mistake is; no key of a study is called so.
KINDS_OF_DATA = _SECTION, _REFERENCE, _NONE = "a section", "a reference", "nothing"
DataField = Annotated[
    Annotated[DataSection, Tag(_SECTION)]
    | Annotated[
        str,
        BeforeValidator(_reference),
        WithJsonSchema({"type": "string", "pattern": f"^{references.PATTERN}$", "examples": ["mine:load"]}),
        Tag(_REFERENCE),
    ]
    | Annotated[None, Tag(_NONE)],
    Discriminator(_kind),
]
