"""From a YAML file and `--set section.key=value` to a RunConfig, or to every problem in it at once.

Imports pydantic and yaml only; reads one file, writes none."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from ssrnn_dist.config.base import Section
from ssrnn_dist.config.explain import explain
from ssrnn_dist.config.run import RunConfig
from ssrnn_dist.problems import UserError, user_error

AnySection = TypeVar("AnySection", bound=Section)
LARGEST_CONFIG_BYTES = 1_000_000
MOST_VALUES = 100_000  # with every alias written out
OF_A_RUN = "`name:` and `data:` (see launch/configs/)"

_MERGE_TAG = "tag:yaml.org,2002:merge"


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML in which a key may stand only once in a mapping."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == _MERGE_TAG:
                continue
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


def check_config(values: dict[str, Any], where: str = "config") -> RunConfig:
    """Validate a run's mapping of sections; UserError tells every problem at once."""
    return validated(RunConfig, values, where)


def validated(kind: type[AnySection], values: dict[str, Any], where: str) -> AnySection:
    """A section made of the values of a file; UserError tells every problem at once."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise UserError(*explain(error, values, where, kind)) from None


def read_yaml(path: str | Path, kind: str = "a run's YAML file", least: str = OF_A_RUN) -> dict[str, Any]:
    """The mapping that a YAML file holds; UserError where it is no such file.

    kind: what the file is, in words.  least: the keys that it has at least, in words."""
    where = str(path)
    try:
        with Path(path).open("rb") as file:
            raw = file.read(LARGEST_CONFIG_BYTES + 1)
    except FileNotFoundError:
        raise user_error(where, "no such file", f"the path of {kind} is wanted") from None
    except IsADirectoryError:
        raise user_error(where, "a folder", f"the path of {kind} is wanted") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise user_error(where, f"cannot be read ({reason})", "a readable YAML file is wanted") from None
    if len(raw) > LARGEST_CONFIG_BYTES:
        raise user_error(where, "a larger file", f"at most {LARGEST_CONFIG_BYTES} bytes of YAML are allowed")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise user_error(where, f"not UTF-8 text (byte {error.start})", "a YAML text file is wanted") from None
    values = _parse(text, where)
    if values is None:
        raise user_error(where, "an empty file", f"at least {least} are wanted")
    if not isinstance(values, dict):
        raise user_error(where, f"a {_yaml_type(values)}", f"a mapping is wanted, with at least {least}")
    return values


def _parse(text: str, where: str) -> Any:
    """The value that a YAML text holds, neither recursive nor boundless."""
    try:
        value = yaml.load(text, Loader=_StrictLoader)
        size = _size(value, {})
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f"{where}:{mark.line + 1}" if mark else where
        raise user_error(at, error.problem or "not YAML", "one `key: value` a line is wanted") from None
    except RecursionError:
        raise user_error(where, "nested too deeply", "sections of keys and values are wanted") from None
    except (yaml.YAMLError, ValueError) as error:
        raise user_error(where, str(error), "valid YAML is wanted") from None
    if size is None:
        raise user_error(where, "an alias that contains itself", "anchors must not be recursive")
    if size > MOST_VALUES:
        raise user_error(where, "aliases that stand for too many values", f"at most {MOST_VALUES} are allowed")
    return value


def _size(value: Any, known: dict[int, int | None]) -> int | None:
    """How many values there are with every alias written out; None where one contains itself."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) in known:
        return known[id(value)]
    known[id(value)] = None  # what is met again before it is counted contains itself
    children = value.values() if isinstance(value, dict) else value
    total = 1
    for child in children:
        size = _size(child, known)
        if size is None:
            return None
        total += size
    known[id(value)] = total
    return total


def apply_overrides(values: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of values with each `section.key=value` set; UserError for one that has no such form."""
    changed: dict[str, Any] = dict(values)
    for override in overrides:
        path, equals, text = override.partition("=")
        keys = path.strip().split(".")
        if not equals or not all(keys):
            raise user_error("--set", f"{override!r}", "section.key=value is wanted, such as train.steps=100")
        changed = _with(changed, keys, _override_value(path, text))
    return changed


def _override_value(path: str, text: str) -> Any:
    try:
        return _parse(text, path)
    except UserError:
        allowed = "a YAML value is wanted, such as 100, [1, 4] or null"
        raise user_error(f"--set {path}", f"{text[:80]!r}", allowed) from None


def _with(values: Any, keys: Sequence[str], value: Any) -> dict[str, Any]:
    copy = dict(values) if isinstance(values, dict) else {}
    copy[keys[0]] = value if len(keys) == 1 else _with(copy.get(keys[0]), keys[1:], value)
    return copy


def _yaml_type(value: Any) -> str:
    return {list: "list", str: "text", int: "number", float: "number", bool: "boolean"}.get(type(value), "value")


def to_yaml(config: RunConfig) -> str:
    """The resolved config, every default filled in, as YAML that loads to the same config."""
    values = config.model_dump(mode="json")
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    if any(line_break in text for line_break in "\x85\u2028\u2029"):  # unescaped, YAML would fold them into spaces
        text = yaml.safe_dump(values, sort_keys=False)
    return text
