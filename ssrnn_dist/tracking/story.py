"""What happened to a run besides its steps, as the text on its MLflow page and as tags: restarts, resizes, warnings.

Imports jsonl and the console's words; events.jsonl in the run's folder has all of it."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from ssrnn_dist.console import event_line

EVENTS = "events.jsonl"
HEADING = "#### What happened (written by ssrnn; text above this line stays)"
MOST_LINES = 40
ONLY_NEWEST = ("checkpoint",)  # of these there is one a minute
NOT_TOLD = ("tracking", "metrics")


def event_row(kind: str, fields: Mapping[str, Any], time_seconds: float) -> dict[str, Any]:
    """A line of events.jsonl."""
    return {"time": round(time_seconds, 3), "kind": kind, "fields": dict(fields)}


def story(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown for the run's page: a line an event, newest first as the page shows the top only; MOST_LINES at most."""
    told = [row for row in rows if row.get("kind") not in NOT_TOLD and isinstance(row.get("time"), int | float)]
    newest = {row["kind"]: index for index, row in enumerate(told)}
    kept = [row for index, row in enumerate(told) if row["kind"] not in ONLY_NEWEST or newest[row["kind"]] == index]
    left_out = [f"- … {len(kept) - MOST_LINES:,} earlier"] if len(kept) > MOST_LINES else []
    return "\n".join([HEADING, "", *(_line(row) for row in reversed(kept[-MOST_LINES:])), *left_out])


def _line(row: Mapping[str, Any]) -> str:
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(row["time"]))
    try:
        text = event_line(row["kind"], dict(row["fields"]))
    except (KeyError, TypeError, ValueError):  # of another version of ours
        text = str(row["kind"])
    return f"- `{when}` {' '.join(text.split())}".replace("<", "&lt;")[:500]


def joined_note(note: str | None, story_text: str) -> str:
    """The run's note with the story at its end; what a person wrote before it stays."""
    own = (note or "").partition(HEADING)[0].rstrip()
    return f"{own}\n\n{story_text}" if own else story_text


def event_tags(kind: str, fields: Mapping[str, Any]) -> dict[str, str]:
    """What of an event one would search runs by."""
    if kind == "checkpoint" and "step" in fields:
        return {"checkpoint_step": str(fields["step"])}
    if kind in ("started", "resumed", "resized") and "workers" in fields:
        return {"workers": str(fields["workers"])}
    if kind == "warning" and "message" in fields:
        return {"warning": str(fields["message"])[:500]}
    return {}
