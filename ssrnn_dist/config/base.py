"""The base of every config section: unknown keys forbidden, values frozen, booleans never taken for numbers.

Imports pydantic only; the command's help must stay quick."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

LARGEST_INTEGER = 2**63 - 1  # what torch's seeds, shapes and counters hold
PositiveInt = Annotated[int, Field(ge=1, le=LARGEST_INTEGER)]
NonNegativeInt = Annotated[int, Field(ge=0, le=LARGEST_INTEGER)]


def outlives_no_process(url: str) -> bool:
    """Whether what is written there is gone with the process, as in fsspec's memory://."""
    return url.lower().startswith("memory://")


class Section(BaseModel):
    """One section of a run's YAML file."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def no_boolean_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """YAML reads `yes` and `on` as true, which pydantic would take for the number 1."""
        annotation = cls.model_fields[info.field_name].annotation if info.field_name else None
        if isinstance(value, bool) and annotation is not bool:
            raise ValueError("a boolean is not allowed here")
        return value
