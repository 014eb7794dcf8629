"""Jobs on a Ray cluster: one client, with a token, and one clear line for what goes wrong with it.

Imports ray inside."""

import logging
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import psutil

from ssrnn_dist.problems import user_error
from ssrnn_launch.problems import LaunchFailed
from ssrnn_launch.records import PROGRESS_KEYS, as_lines, progress_of, read

STOP_WAIT_SECONDS = 90  # how long the cluster lets a stopped run save before it is killed
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")
TAIL_LINES = 300  # of a log: enough for its last records
STOPPED_CODES = (128 + signal.SIGINT, 128 + signal.SIGTERM)
ASK_SECONDS = 10.0  # for one answer of the head
PATIENCE_SECONDS = 30.0  # with a head that is too busy to answer before a job is made
ASKED_AT_ONCE = 8


@contextmanager
def job_client(address: str) -> Iterator[Any]:
    """A JobSubmissionClient. UserError where nothing answers, or the token is missing or wrong."""
    if not address.startswith(("http://", "https://")):
        raise user_error("--address", address, "http://HOST:PORT of a head's dashboard is wanted")
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    for variable in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(variable, None)  # Ray would take them before the address that it is given
    _check_token()
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in [name for name in logging.root.manager.loggerDict if name.startswith("ray.")]:
        logging.getLogger(name).setLevel(logging.WARNING)  # uploads and streams are no news
    try:
        yield JobSubmissionClient(address)
    except AuthenticationError:
        came = f"the cluster at {address} does not know this token"
        raise user_error("token", came, "the head's token is wanted in RAY_AUTH_TOKEN or ~/.ray/auth_token") from None
    except OSError as error:
        if not isinstance(error, ConnectionError) and error.errno is not None:
            raise  # a file of ours; what the HTTP client raises has no number
        raise user_error("--address", f"nothing answers at {address}", "a running head's dashboard is wanted") from None
    except (RuntimeError, ValueError) as error:
        raise _told(address, error) from None


def _check_token() -> None:
    if os.environ["RAY_AUTH_MODE"] != "token":
        return
    from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]

    if not AuthenticationTokenLoader.instance().has_token(ignore_auth_mode=True):
        allowed = (
            "the head's token is wanted in RAY_AUTH_TOKEN or ~/.ray/auth_token (`ray get-auth-token` prints it there)"
        )
        raise user_error("token", "none was found", allowed)


def _told(address: str, error: Exception) -> Exception:
    """What the jobs server or its client said, as one of our errors."""
    if isinstance(error, LaunchFailed) or hasattr(error, "problems"):
        return error
    text = " ".join(str(error).split())
    if "does not exist" in text or "404" in text:
        came = (text.partition(": ")[2] or text)[:160].rstrip(".")
        return user_error("job", came, "an id from `ssrnn jobs list` is wanted")
    if isinstance(error, ValueError):
        return user_error("--address", f"{address} ({text[:160]})", "http://HOST:PORT of a head's dashboard is wanted")
    return LaunchFailed(f"the cluster at {address} refused: {text[:200]}")


def ask_head(client: Any, path: str) -> Any:
    """The head's answer to a GET of its state API, with the client's token; a requests.Response.

    The client has no public method for it, and ray.util.state wants the head's other port."""
    return client._do_request("GET", path, timeout=ASK_SECONDS)


def describe(job: Any) -> dict[str, Any]:
    """A job as this project shows it; times are seconds since 1970."""
    metadata = job.metadata or {}
    status = str(getattr(job.status, "value", job.status))
    if status == "FAILED" and job.driver_exit_code in STOPPED_CODES:
        status = "STOPPED"  # with a checkpoint: by a signal, a notice or its budget
    return {
        "id": job.submission_id,
        "run": metadata.get("ssrnn_run"),
        "folder": metadata.get("ssrnn_folder"),
        "status": status,
        "message": job.message and "\n".join(as_lines(job.message)),  # of a failed job: the end of its log
        "started": None if job.start_time is None else job.start_time / 1000,
        "ended": None if job.end_time is None else job.end_time / 1000,
        "exit_code": job.driver_exit_code,
    }


def list_jobs(address: str) -> list[dict[str, Any]]:
    """The cluster's submitted jobs, newest first; those that run with how far they are."""
    with job_client(address) as client, ThreadPoolExecutor(ASKED_AT_ONCE) as pool:

        def told(job: Any) -> dict[str, Any]:
            known = describe(job)
            return known | (progress(client, job) if known["status"] == "RUNNING" else dict.fromkeys(PROGRESS_KEYS))

        found = list(pool.map(told, [job for job in client.list_jobs() if job.submission_id]))
    return sorted(found, key=lambda job: job["started"] or 0, reverse=True)


def job_status(address: str, job_id: str) -> dict[str, Any]:
    """One job and how far its run is; UserError where there is none of this id."""
    with job_client(address) as client:
        job = client.get_job_info(job_id)
        return describe(job) | progress(client, job)


def progress(client: Any, job: Any) -> dict[str, Any]:
    """How far a job's run is, from the end of its log; nulls where the head can't say."""
    node, name = job.driver_node_id, f"job-driver-{job.submission_id}.log"
    if node is None:
        return progress_of([])
    try:
        answer = ask_head(client, f"/api/v0/logs/file?node_id={node}&filename={name}&lines={TAIL_LINES}")
    except OSError:
        return progress_of([])
    answer.encoding = "utf-8"
    return progress_of(read(answer.text) if answer.status_code == 200 else [])


def stop_job(address: str, job_id: str) -> dict[str, Any]:
    """Ask a run to stop with a checkpoint, and wait until it has; the job as it ended, saved_step its checkpoint's."""
    with job_client(address) as client:
        client.stop_job(job_id)
    return wait_for_end(address, job_id, STOP_WAIT_SECONDS + 10.0)


def wait_for_end(address: str, job_id: str, within_seconds: float) -> dict[str, Any]:
    """The job as soon as it has ended, or as it is when the time is over."""
    until = time.monotonic() + within_seconds
    while True:
        with job_client(address) as client:
            status = str(getattr(client.get_job_status(job_id), "value", ""))
        if status in ENDED or time.monotonic() > until:
            return job_status(address, job_id)
        time.sleep(0.5)


def living_nodes(client: Any) -> list[dict[str, Any]]:
    """The cluster's nodes as the head's state API tells of them; none where it does not say."""
    try:
        found = _data_of(client, "/api/v0/nodes?detail=0&limit=10000")["result"]["result"] or []
        return [node for node in found if node.get("state") == "ALIVE"]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def is_of_this_machine(client: Any, nodes: list[dict[str, Any]]) -> bool:
    """Is this machine one of the cluster's?  nodes: living_nodes."""
    own = {each.address for addresses in psutil.net_if_addrs().values() for each in addresses}
    return is_one_of(_host_names(client), {str(node.get("node_ip")) for node in nodes}, socket.gethostname(), own)


def is_one_of(names: set[str], addresses: set[str], own_name: str, own_addresses: set[str]) -> bool:
    """By name; by address where the head knows no names, as one whose start was slow may not for all its life."""
    return own_name in names if names else bool(addresses & own_addresses)


def _host_names(client: Any) -> set[str]:
    """The machines of the cluster's living nodes, by their own names; none where the head does not say."""
    try:
        return set(_data_of(client, "/nodes?view=hostNameList")["hostNameList"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _data_of(client: Any, path: str) -> Any:
    """What the head's state API says, asked again for PATIENCE_SECONDS. OSError, ValueError or KeyError: nothing."""
    until = time.monotonic() + PATIENCE_SECONDS
    while (answer := _answer(client, path)) is None or answer.status_code >= 500:
        if time.monotonic() > until:
            raise OSError("the head does not answer")
        time.sleep(1)  # a head that has just started answers with errors
    return answer.json()["data"]


def _answer(client: Any, path: str) -> Any | None:
    try:
        return ask_head(client, path)
    except OSError:
        return None
