"""From a YAML file and `--set section.key=value` to a RunConfig, or to every problem in it at once.

Imports pydantic and yaml only; reads one file, writes none."""

import difflib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from ssrnn_dist.config.run import RunConfig
from ssrnn_dist.problems import Problem, UserError, user_error

LARGEST_CONFIG_BYTES = 1_000_000


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML in which a key may stand only once in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain name", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_config(path: str | Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Read and check a run's YAML file.

    path: the file.  overrides: `section.key=value`, the value as YAML; the last one wins.
    Raises UserError with every problem found."""
    return check_config(apply_overrides(read_yaml(path), overrides), where=str(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping that a YAML file holds; UserError where it is no such file."""
    where = str(path)
    try:
        raw = Path(path).read_bytes()
    except FileNotFoundError:
        raise user_error(where, "no such file", "the path of a run's YAML file is wanted") from None
    except IsADirectoryError:
        raise user_error(where, "a folder", "the path of a run's YAML file is wanted") from None
    except OSError as error:
        raise user_error(where, f"cannot be read ({error.strerror})", "a readable YAML file is wanted") from None
    if len(raw) > LARGEST_CONFIG_BYTES:
        raise user_error(where, f"{len(raw)} bytes", f"at most {LARGEST_CONFIG_BYTES} bytes of YAML are allowed")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise user_error(where, f"not UTF-8 text (byte {error.start})", "a YAML text file is wanted") from None
    return _parse(text, where)


def _parse(text: str, where: str) -> dict[str, Any]:
    try:
        values = yaml.load(text, Loader=_StrictLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{where}:{mark.line + 1}" if mark else where
        raise user_error(at, error.problem or "not YAML", "one `key: value` a line is wanted") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise user_error(where, str(error) or "nested too deeply", "valid YAML is wanted") from None
    if values is None:
        raise user_error(where, "an empty file", "at least `name:` and `data:` are wanted (see launch/configs/)")
    if not isinstance(values, dict):
        raise user_error(where, f"a {_yaml_type(values)}", "a mapping of sections is wanted")
    if _contains_itself(values):
        raise user_error(where, "an alias that contains itself", "anchors must not be recursive")
    return values


def _contains_itself(value: Any, above: tuple[int, ...] = ()) -> bool:
    if id(value) in above:
        return True
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(_contains_itself(child, (*above, id(value))) for child in children)


def apply_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of values with each `section.key=value` set; UserError for one that has no such form."""
    changed: dict[str, Any] = dict(values)
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise user_error("--set", f"{override!r}", "section.key=value is wanted, such as train.steps=100")
        try:
            value = yaml.load(text, Loader=_StrictLoader)
        except yaml.YAMLError:
            raise user_error(
                f"--set {path}", f"{text!r}", "a YAML value is wanted, such as 100, [1, 4] or null"
            ) from None
        changed = _with(changed, keys, value)
    return changed


def _with(values: Any, keys: Sequence[str], value: Any) -> dict[str, Any]:
    copy = dict(values) if isinstance(values, dict) else {}
    copy[keys[0]] = value if len(keys) == 1 else _with(copy.get(keys[0]), keys[1:], value)
    return copy


def check_config(values: dict[str, Any], where: str = "config") -> RunConfig:
    """Validate a mapping of sections; UserError tells every problem at once."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(*(_problem(detail, where) for detail in error.errors())) from None


def _problem(detail: Any, where: str) -> Problem:
    """One pydantic error in the contract's words."""
    location = [str(part) for part in detail["loc"]]
    fields = _fields_at(location[:-1])
    kind = detail["type"]
    if kind == "extra_forbidden":
        close = difflib.get_close_matches(location[-1], fields, n=1)
        guess = f"did you mean {close[0]}? " if close else ""
        return Problem(".".join(location), "unknown key", f"{guess}allowed: {', '.join(sorted(fields))}")
    path = ".".join(part for part in location if part in fields or _is_path_part(part)) or where
    if kind == "missing":
        return Problem(path, "missing", _described(location) or "it is required")
    message = str(detail["msg"]).removeprefix("Value error, ")
    if ";" in message:  # our own validators already say what came and what is allowed
        came, _, allowed = message.partition(";")
        return Problem(path, came.strip(), allowed.strip())
    return Problem(path, _shown(detail.get("input")), message[:1].lower() + message[1:])


def _is_path_part(part: str) -> bool:
    """Names and list positions are part of the path; pydantic's own union tags are not."""
    return part.isdigit() or (part.isidentifier() and part not in {"int", "float", "str", "bool", "constrained"})


def _fields_at(location: Sequence[str]) -> list[str]:
    model: Any = RunConfig
    for part in location:
        field = getattr(model, "model_fields", {}).get(part)
        model = _section_of(field.annotation) if field else None
    return list(getattr(model, "model_fields", {}))


def _section_of(annotation: Any) -> Any:
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    return next((each for each in candidates if isinstance(each, type) and issubclass(each, BaseModel)), None)


def _described(location: Sequence[str]) -> str:
    model: Any = RunConfig
    for part in location[:-1]:
        field = getattr(model, "model_fields", {}).get(part)
        model = _section_of(field.annotation) if field else None
    field = getattr(model, "model_fields", {}).get(location[-1])
    return f"required: {field.description}" if field and field.description else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _yaml_type(value: Any) -> str:
    return {list: "list", str: "text", int: "number", float: "number", bool: "boolean"}.get(type(value), "value")


def to_yaml(config: RunConfig) -> str:
    """The resolved config, every default filled in, as YAML that loads to the same config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
