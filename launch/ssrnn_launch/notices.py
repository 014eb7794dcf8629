"""Whether this node will be taken away: a file on it, or its cloud's metadata service, says so before it happens.

Touches the file and the service and nothing else. A cloud is one function in CLOUDS, and its name in NoticeSection."""

import json
import logging
import math
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPException
from pathlib import Path
from typing import Any

from ssrnn_dist.config.cluster import NoticeSection

URL_VARIABLE = "SSRNN_METADATA_URL"  # another service than the cloud's own: for tests
TIMEOUT_SECONDS = 1.0
LARGEST_ANSWER_BYTES = 64_000
LEAST_UNIX_SECONDS = 1e9  # a smaller number in a notice counts from when the notice was written
GCP_PREEMPTION_SECONDS = 30.0  # that Compute Engine leaves a preempted machine, as it documents

_log = logging.getLogger(__name__)
_told: set[str] = set()


@dataclass(frozen=True)
class Notice:
    """This node will go. deadline: Unix seconds; None where nobody said when."""

    reason: str
    deadline: float | None


def look(notice: NoticeSection) -> Notice | None:
    """Ask the file, then the cloud. Whatever goes wrong is no notice; it is logged once a process.

    Takes up to two TIMEOUT_SECONDS where a service does not answer: for a thread, never for the training loop."""
    asked: dict[str, Callable[[], Notice | None]] = {}
    if notice.file is not None:
        path = Path(notice.file)
        asked[f"cluster.notice.file {path}"] = lambda: _of_file(path)
    if notice.metadata != "none":
        asked[f"cluster.notice.metadata {notice.metadata}"] = CLOUDS[notice.metadata]
    for name, ask in asked.items():
        try:
            found = ask()
        except (OSError, ValueError, HTTPException) as error:  # URLError is an OSError
            _tell_once(name, error)
            continue
        if found is not None:
            return found
    return None


def _tell_once(name: str, error: Exception) -> None:
    if name not in _told:
        _told.add(name)
        _log.warning("%s: no answer (%s); asked again, but not told again", name, error)


def _of_file(path: Path) -> Notice | None:
    """That the file is there is the notice; that it can't be read changes nothing."""
    try:
        written_at = path.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_ANSWER_BYTES).decode(errors="replace")
    except OSError:
        text = ""
    return parse_file(text, str(path), written_at)


def parse_file(text: str, name: str, written_at: float) -> Notice:
    """A notice's text: an ISO time, Unix seconds, seconds from when it was written, a JSON object, or any reason.

    The object may have a deadline (or time) and a reason (or action), as AWS's has. A time without a zone is UTC."""
    text = text.strip()
    if not text:
        return Notice(f"{name} exists", None)
    deadline = parse_deadline(text, written_at)
    if deadline is not None:
        return Notice(f"{name} exists", deadline)
    values = _json_object(text)
    if values is None:
        return Notice(text.splitlines()[0], None)
    return _notice_of(values, f"{name} exists", written_at)


def parse_deadline(value: Any, written_at: float) -> float | None:
    """Unix seconds from a number, its text, or an ISO time; None where it is none of these."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return _iso_seconds(str(value))
    if not math.isfinite(number) or number < 0:
        return None
    return number if number >= LEAST_UNIX_SECONDS else written_at + number


def _iso_seconds(text: str) -> float | None:
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _notice_of(values: Mapping[str, Any], otherwise: str, written_at: float) -> Notice:
    reason = values.get("reason") or values.get("action") or otherwise
    return Notice(str(reason), parse_deadline(values.get("deadline", values.get("time")), written_at))


def _aws() -> Notice | None:
    """Spot interruption by IMDSv2. The rebalance recommendation is left out: it is a hint, many such nodes stay."""
    base = os.environ.get(URL_VARIABLE, "http://169.254.169.254")
    token = _ask(f"{base}/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "60"}, method="PUT")
    if token is None:
        raise ValueError("the metadata service gives no token")
    return parse_aws(_ask(f"{base}/latest/meta-data/spot/instance-action", {"X-aws-ec2-metadata-token": token}))


def parse_aws(text: str | None) -> Notice | None:
    """spot/instance-action: None (404) until the instance is to go, then {"action": …, "time": …}.

    ValueError: something else answers there."""
    if text is None:
        return None
    values = _json_object(text)
    if values is None or "action" not in values:
        raise ValueError(f"spot/instance-action is {text[:60]!r}, an object with an action was expected")
    found = _notice_of(values, "", 0.0)
    return Notice(f"AWS spot: {found.reason}", found.deadline)


def _gcp() -> Notice | None:
    base = os.environ.get(URL_VARIABLE, "http://metadata.google.internal")
    answers = (
        _ask(f"{base}/computeMetadata/v1/instance/{name}", {"Metadata-Flavor": "Google"})
        for name in ("preempted", "maintenance-event")
    )
    preempted, maintenance = answers
    return parse_gcp(preempted, maintenance, time.time())


def parse_gcp(preempted: str | None, maintenance: str | None, now: float) -> Notice | None:
    """The values of instance/preempted and instance/maintenance-event; a live migration is no notice.

    ValueError: something else answers there."""
    if preempted is None or preempted.strip() not in ("TRUE", "FALSE"):
        raise ValueError(f"instance/preempted is {(preempted or 'missing')[:60]!r}, TRUE or FALSE was expected")
    if preempted.strip() == "TRUE":
        return Notice("GCP: preempted", now + GCP_PREEMPTION_SECONDS)
    if maintenance is not None and maintenance.strip() == "TERMINATE_ON_HOST_MAINTENANCE":
        return Notice("GCP: ends for maintenance of its host", None)
    return None


CLOUDS: dict[str, Callable[[], Notice | None]] = {"aws": _aws, "gcp": _gcp}


def _ask(url: str, headers: Mapping[str, str], method: str = "GET") -> str | None:
    """The text at a URL, None where there is none (404), never by a proxy.

    OSError, ValueError or HTTPException: any other trouble."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url, headers=dict(headers), method=method)
    try:
        with opener.open(request, timeout=TIMEOUT_SECONDS) as response:
            return str(response.read(LARGEST_ANSWER_BYTES).decode(errors="replace"))
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise
