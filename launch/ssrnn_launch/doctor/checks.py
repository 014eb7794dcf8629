"""One line of the doctor's, and how several are summed up. Pure; imports the standard library only."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

Value = TypeVar("Value", bound=Hashable)
State = Literal["ok", "warn", "fail"]
WORDS: Mapping[State, str] = {"ok": "ok", "warn": "warn", "fail": "FAIL"}
MOST_NAMES = 4


@dataclass(frozen=True)
class Check:
    """What was looked at, how it stands, what was found, and, where that is not well, what to do."""

    name: str
    state: State
    detail: str
    remedy: str | None = None

    def __str__(self) -> str:
        text = f"{self.name} — {self.detail}" + (f"; {self.remedy}" if self.remedy else "")
        return f"{WORDS[self.state]:<4}  {' '.join(text.split())}"


def ok(name: str, detail: str) -> Check:
    return Check(name, "ok", detail)


def warn(name: str, detail: str, remedy: str) -> Check:
    return Check(name, "warn", detail, remedy)


def fail(name: str, detail: str, remedy: str) -> Check:
    return Check(name, "fail", detail, remedy)


def report(checks: Sequence[Check]) -> dict[str, Any]:
    """All checks as one JSON-able object. ok: nothing failed."""
    counts = Counter(check.state for check in checks)
    return {
        "ok": not counts["fail"],
        "passed": counts["ok"],
        "warnings": counts["warn"],
        "failed": counts["fail"],
        "checks": [asdict(check) for check in checks],
    }


def listed(names: Iterable[str]) -> str:
    """a, b, c, d and 12 more."""
    found = sorted(names)
    more = f" and {len(found) - MOST_NAMES} more" if len(found) > MOST_NAMES else ""
    return ", ".join(found[:MOST_NAMES]) + more


def grouped(values: Mapping[str, Value]) -> dict[Value, list[str]]:
    """The names that have each value, the commonest value first."""
    groups: dict[Value, list[str]] = {}
    for name, value in values.items():
        groups.setdefault(value, []).append(name)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def failures(name: str, errors: Mapping[str, str | None], remedy: str) -> list[Check]:
    """A FAIL line for each error that some nodes share; none where no node has one. errors: by node."""
    found = grouped({node: error for node, error in errors.items() if error is not None})
    return [fail(name, f"{listed(nodes)}: {error}", remedy) for error, nodes in found.items()]


def nodes_(count: int) -> str:
    """1 node, 2 nodes."""
    return f"{count} node" + ("" if count == 1 else "s")


def gigabytes(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:,.1f} GB"
