"""What the sections of a study file share: strict, immutable, and with numbers in any notation."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator


def scientific(value: object) -> object:
    """Return a number for ``1e-3``, which YAML 1.1 takes for text; everything else as it is."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


Fraction = Annotated[float, BeforeValidator(scientific), Field(gt=0, lt=1)]
Name = Annotated[str, Field(min_length=1)]


class Section(BaseModel):
    """A part of the study file: no unknown keys, no silent conversions, immutable."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _read_numbers(cls, value: object, info: ValidationInfo) -> object:
        assert info.field_name is not None
        return scientific(value) if cls.model_fields[info.field_name].annotation is float else value
