"""Jobs on a Ray cluster: one client, with a token, and one clear line for what goes wrong with it.

Imports ray inside."""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ssrnn_dist.problems import user_error
from ssrnn_launch.problems import LaunchFailed

STOP_WAIT_SECONDS = 90  # how long the cluster lets a stopped run save before it is killed
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


@contextmanager
def job_client(address: str) -> Iterator[Any]:
    """A JobSubmissionClient. UserError where nothing answers, or the token is missing or wrong."""
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    for variable in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(variable, None)  # Ray would take them before the address that it is given
    _check_token()
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

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
    if isinstance(error, ValueError) and hasattr(error, "problems"):
        return error
    text = " ".join(str(error).split())
    if "does not exist" in text or "404" in text:
        return user_error("job", text.partition(": ")[2][:160] or text[:160], "an id from `ssrnn jobs list` is wanted")
    if isinstance(error, ValueError):
        return user_error("--address", f"{address} ({text[:160]})", "http://HOST:PORT of a head's dashboard is wanted")
    return LaunchFailed(f"the cluster at {address} refused: {text[:200]}")


def describe(job: Any) -> dict[str, Any]:
    """A job as this project shows it; times are seconds since 1970."""
    metadata = job.metadata or {}
    return {
        "id": job.submission_id,
        "run": metadata.get("ssrnn_run"),
        "folder": metadata.get("ssrnn_folder"),
        "status": str(getattr(job.status, "value", job.status)),
        "message": job.message,
        "started": None if job.start_time is None else job.start_time / 1000,
        "ended": None if job.end_time is None else job.end_time / 1000,
        "exit_code": job.driver_exit_code,
    }


def list_jobs(address: str) -> list[dict[str, Any]]:
    """The cluster's submitted jobs, newest first."""
    with job_client(address) as client:
        found = [describe(job) for job in client.list_jobs() if job.submission_id]
    return sorted(found, key=lambda job: job["started"] or 0, reverse=True)


def job_status(address: str, job_id: str) -> dict[str, Any]:
    """One job; UserError where there is none of this id."""
    with job_client(address) as client:
        return describe(client.get_job_info(job_id))


def job_logs(address: str, job_id: str) -> str:
    """All that the job has printed."""
    with job_client(address) as client:
        return str(client.get_job_logs(job_id))


def follow_logs(address: str, job_id: str, write: Callable[[str], None]) -> dict[str, Any]:
    """Write what a job prints as it comes; the job once it has ended."""

    async def follow(client: Any) -> None:
        async for text in client.tail_job_logs(job_id):
            write(text)

    with job_client(address) as client:
        client.get_job_info(job_id)
        asyncio.run(follow(client))
    return wait_for_end(address, job_id, 10.0)


def stop_job(address: str, job_id: str) -> dict[str, Any]:
    """Ask a run to stop with a checkpoint, and wait until it has; the job as it ended."""
    with job_client(address) as client:
        client.stop_job(job_id)
    return wait_for_end(address, job_id, STOP_WAIT_SECONDS + 10.0)


def wait_for_end(address: str, job_id: str, within_seconds: float) -> dict[str, Any]:
    """The job as soon as it has ended, or as it is when the time is over."""
    until = time.monotonic() + within_seconds
    while True:
        job = job_status(address, job_id)
        if job["status"] in ENDED or time.monotonic() > until:
            return job
        time.sleep(0.5)
