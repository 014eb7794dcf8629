"""pydantic's findings in the contract's words: `<where>: <what came>; <what is allowed>`, one line a value.

Pure; imports pydantic only."""

import difflib
import re
import reprlib
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from ssrnn_dist.config.base import Section
from ssrnn_dist.problems import Problem

# The key that one of our own validators names at the beginning of its message: `workers: [4, 2]; ...`.
_OWN_KEY = re.compile(r"([a-z_0-9]+(?:\.[a-z_0-9]+)*): (.*)", re.DOTALL)

_WANTED = {
    "int_type": "a whole number is wanted",
    "int_parsing": "a whole number is wanted",
    "int_from_float": "a whole number is wanted",
    "int_parsing_size": "a smaller whole number is wanted",
    "float_type": "a number is wanted",
    "float_parsing": "a number is wanted",
    "finite_number": "a finite number is wanted",
    "string_type": "text is wanted (in quotes, where YAML would take it for something else)",
    "bool_type": "true or false is wanted",
    "bool_parsing": "true or false is wanted",
    "list_type": "a list is wanted",
    "date_type": "a date is wanted, such as 2026-11-01",
    "date_from_datetime_parsing": "a date is wanted, such as 2026-11-01",
    "date_from_datetime_inexact": "a date is wanted, such as 2026-11-01",
}


def explain(error: ValidationError, values: Any, where: str, root: type[Section]) -> list[Problem]:
    """Every problem of a config, in its order.

    values: the mapping that was validated.  where: what stands for the whole config.  root: what it should be."""
    problems = dict.fromkeys(_problem(detail, values, where, root) for detail in error.errors())
    return list(problems)


def _problem(detail: Any, values: Any, where: str, root: type[Section]) -> Problem:
    location = [str(part) for part in detail["loc"]]
    kind, message = detail["type"], str(detail["msg"]).removeprefix("Value error, ")
    if kind in ("extra_forbidden", "invalid_key"):
        return _unknown_key(location, root)
    fields = _fields(location, root)
    path = ".".join(location) or where
    union = next((depth for depth, field in enumerate(fields) if _is_union(field)), None)
    if union is not None:  # pydantic tells of each member of the union; the user gave one value
        down_to = _up_to_field(location, union)
        allowed = message if kind == "value_error" else f"allowed: {fields[union].description}"
        return Problem(".".join(down_to), _shown(_value_at(values, down_to)), allowed)
    if kind == "missing":
        described = fields[-1].description if fields else None
        return Problem(path, "missing", f"required: {described}" if described else f"the section {path}: is required")
    if kind == "value_error" and (own := _OWN_KEY.fullmatch(message)):
        came, _, allowed = own[2].partition(";")
        return Problem(".".join([*location, own[1]]), came.strip(), allowed.strip())
    return Problem(
        path,
        _shown(detail.get("input")),
        _wanted_like(detail.get("input"), fields) + _wanted(kind, detail.get("ctx") or {}, message, location, root),
    )


def _unknown_key(location: Sequence[str], root: type[Section]) -> Problem:
    fields = _keys_at(location[:-1], root)
    close = difflib.get_close_matches(location[-1], fields, n=1)
    guess = f"did you mean {close[0]}? " if close else ""
    return Problem(".".join(location), "unknown key", f"{guess}allowed: {', '.join(sorted(fields))}")


def _wanted_like(value: Any, fields: Sequence[FieldInfo]) -> str:
    """A guess for a misspelt word where only some words are allowed."""
    words = [each for each in get_args(fields[-1].annotation) if isinstance(each, str)] if fields else []
    close = difflib.get_close_matches(value, words, n=1) if isinstance(value, str) else []
    return f"did you mean {close[0]}? " if close else ""


def _wanted(kind: str, context: Mapping[str, Any], message: str, location: Sequence[str], root: type[Section]) -> str:
    if kind in _WANTED:
        return _WANTED[kind]
    if kind in ("model_type", "model_attributes_type", "dict_type"):
        return f"a mapping is wanted; allowed keys: {', '.join(sorted(_keys_at(location, root)))}"
    if kind == "literal_error":
        return f"allowed: {context['expected']}"
    if kind == "too_short":
        return f"at least {context['min_length']} is wanted"
    return re.sub(r"^[Ii]nput should be (.*)$", r"\1 is allowed", message)


def _fields(location: Sequence[str], root: type[Section]) -> list[FieldInfo]:
    """The fields on the way down a location, as far as it names fields."""
    found: list[FieldInfo] = []
    model: Any = root
    for part in location:
        if part.isdecimal():  # an entry of a list
            continue
        field = model.model_fields.get(part) if model else None
        if field is None:
            break
        found.append(field)
        model = _section_of(field)
    return found


def _keys_at(location: Sequence[str], root: type[Section]) -> list[str]:
    fields = _fields(location, root)
    model = _section_of(fields[-1]) if fields else root
    return list(model.model_fields) if model else []


def _section_of(field: FieldInfo) -> type[BaseModel] | None:
    members = (field.annotation, *get_args(field.annotation))
    candidates = (*members, *(entry for member in members for entry in get_args(member)))  # of a list of sections
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _is_union(field: FieldInfo) -> bool:
    if get_origin(field.annotation) not in (Union, UnionType):
        return False
    return len([each for each in get_args(field.annotation) if each is not NoneType]) > 1


def _up_to_field(location: Sequence[str], depth: int) -> list[str]:
    """The location as far as the field of this depth; entries of lists are no fields."""
    names = [place for place, part in enumerate(location) if not part.isdecimal()]
    return list(location[: names[depth] + 1])


def _value_at(values: Any, location: Sequence[str]) -> Any:
    for part in location:
        if isinstance(values, list) and part.isdecimal() and int(part) < len(values):
            values = values[int(part)]
        else:
            values = values.get(part) if isinstance(values, dict) else None
    return values


def _shown(value: Any) -> str:
    """A value as YAML would name it, 80 characters at most."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = reprlib.repr(value) if isinstance(value, str | int | float | list | dict) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."
