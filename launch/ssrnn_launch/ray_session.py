"""A Ray of our own, for one command: every socket on 127.0.0.1, a token of its own, nothing left when it ends.

Sets the environment before ray is imported; imports ray inside."""

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import psutil

from ssrnn_dist.problems import user_error
from ssrnn_launch.guard import MARK_VARIABLE, end_marked, guarded
from ssrnn_launch.problems import LaunchFailed, Stopped
from ssrnn_launch.stop_signals import last_resort

CONNECT_SECONDS = 5.0
OBJECT_STORE_BYTES = 120_000_000  # Ray's least is 75 MB; nothing big goes through it
LAST_RESORT_SECONDS = 9.0
FOLDER_PREFIX = "ssrnn-ray-"
YOUNGEST_SWEPT_SECONDS = 60.0  # a younger folder may be about to be locked

# Without the first, Ray takes 127.0.0.1 for the machine's outward address and listens on every interface.
COMMON_ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_agent_register_timeout_ms": "120000",  # a busy machine takes longer than Ray's 30 s to import its agent
    "RAY_worker_niceness": "0",  # by Ray's 15, a worker has a thirtieth of a core where anything else wants it, too
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # a thread may call once more after the end: no second Ray for it
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",  # Ray's own cries between our lines; its log files have them
    "RAY_enable_metrics_collection": "0",
}

# Of a driver that joins a cluster. That something listens there is known by then: what it tries again is a wrong token.
CLUSTER_ENVIRONMENT = {
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_ENABLE_AUTO_CONNECT": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_gcs_server_port_wait_time_s": "8",
}


def worker_environment(gpus_per_worker: int) -> dict[str, str]:
    """What every worker needs in its environment before it imports anything."""
    device = {"SSRNN_USES_GPU": "1"} if gpus_per_worker else {"DS_ACCELERATOR": "cpu"}
    return {**device, "PYTHONWARNINGS": "ignore::FutureWarning"}


@contextmanager
def local_ray(cpus: int, environment: Mapping[str, str], logs: Path) -> Iterator[Callable[[], str | None]]:
    """Start Ray on loopback and connect to it; in the end none of its processes and none of its files is left.

    Yields a function that says which of Ray's own processes has died, if one has. Where the run fails, Ray's logs are
    kept in logs/ray. Ctrl-C or SIGTERM ends it all at once while Ray starts, and in LAST_RESORT_SECONDS
    later on, whatever hangs."""
    mark = secrets.token_hex(16)
    os.environ.update({**COMMON_ENVIRONMENT, **environment, MARK_VARIABLE: mark})
    os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(16)})
    if "ray" in sys.modules:
        raise RuntimeError("ray was imported before its environment was set")
    import ray

    _quieten_ray()
    orderly = True
    with _own_folder() as folder, guarded(mark, folder), last_resort(lambda: _leave(mark, folder), 0.0) as patience:
        try:
            with _settings_that_ray_lacks():
                _start(ray, cpus, folder)  # nothing to save yet: a signal ends it at once, whatever Ray is doing
            patience.seconds = LAST_RESORT_SECONDS
            yield _watch_over_ray()
        except Stopped as stopped:
            orderly = not stopped.at_once
            raise
        except LaunchFailed:
            _keep_logs(folder, logs / "ray")
            raise
        except ray.exceptions.RayError as error:
            _keep_logs(folder, logs / "ray")
            raise LaunchFailed(f"Ray failed: {' '.join(str(error).split())[:200]}", str(logs / "ray")) from error
        finally:
            _end(ray.shutdown if orderly else None, mark, folder)


class _Deaf(subprocess.Popen[bytes]):
    """A process that hears no SIGTERM, whether it goes to our process group (`timeout`) or to all of a job (Slurm).

    Nor does what it starts, until that listens again. The guard ends them all if we are killed."""

    def __init__(self, command: Any, *, preexec_fn: Callable[[], None] | None = None, **options: Any) -> None:
        def before() -> None:
            if preexec_fn is not None:
                preexec_fn()
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})

        super().__init__(command, preexec_fn=before, start_new_session=True, **options)

    def terminate(self) -> None:
        self.kill()


@contextmanager
def _settings_that_ray_lacks() -> Iterator[None]:
    """Ray's processes that are started here live until all is saved; none of them reads the workers' logs all the time.

    The driver would be sent those logs, which it does not want."""
    from ray._private import node, services

    popen, start_log_monitor = services.ConsolePopen, node.Node.start_log_monitor
    services.ConsolePopen, node.Node.start_log_monitor = _Deaf, lambda self: None
    try:
        yield
    finally:
        services.ConsolePopen, node.Node.start_log_monitor = popen, start_log_monitor


def _start(ray: Any, cpus: int, folder: Path) -> None:
    try:
        ray.init(
            "local",
            _node_ip_address="127.0.0.1",
            _temp_dir=str(folder),
            num_cpus=cpus,
            include_dashboard=False,
            log_to_driver=False,
            configure_logging=False,
            object_store_memory=OBJECT_STORE_BYTES,
        )
    except (RuntimeError, OSError, ValueError) as error:
        raise LaunchFailed(f"Ray did not start: {' '.join(str(error).split())[:200]}") from error


def _watch_over_ray() -> Callable[[], str | None]:
    core = {name: each for each in psutil.Process().children() if (name := each.name()) in ("gcs_server", "raylet")}

    def what_died() -> str | None:
        for name, process in core.items():
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return f"Ray's {name} died"
        return None

    return what_died


def _end(shutdown: Callable[[], None] | None, mark: str, folder: Path) -> None:
    """Ray's own shutdown, unless it must be quick, then the end of what is left."""
    if shutdown is not None:
        with contextlib.suppress(Exception):
            shutdown()
    left = _kill(mark, folder)
    if left:
        raise LaunchFailed(f"processes that do not end: {', '.join(map(str, left))}")


def _leave(mark: str, folder: Path) -> None:
    """The end of everything but this process, which exits next."""
    _kill(mark, folder)
    if sys.stdout.isatty() or sys.stderr.isatty():
        print("\x1b[?25h", file=sys.stderr)  # the cursor, which a progress bar hides
    print("stopped", file=sys.stderr, flush=True)


def _kill(mark: str, folder: Path) -> list[int]:
    return end_marked(mark, folder, spare=frozenset({os.getpid()}))


def why_unreachable(address: str) -> str | None:
    """Why nothing takes connections at HOST:PORT or ray://HOST:PORT; Ray would try for minutes. None: it does."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return None  # auto, local: Ray knows at once
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        return " ".join(str(error).split())
    return None


@contextmanager
def connected_ray(address: str) -> Iterator[None]:
    """Connect to a cluster that stands; UserError where there is none, or none that takes our token."""
    if address.lower().startswith(("http://", "https://")):  # a driver joins at the head's own port
        allowed = f"IP:PORT of a head, ray://HOST:10001 or auto is wanted, or `ssrnn submit --address {address}`"
        raise user_error("cluster.address", f"{address}, the address of a dashboard", allowed)
    os.environ.update(CLUSTER_ENVIRONMENT)
    import ray

    _quieten_ray()
    if (reason := why_unreachable(address)) is not None:
        came = f"{address}: nothing answers there ({reason})"
        raise user_error("cluster.address", came, "the address of a running head is wanted")
    try:
        with _no_native_stderr():
            ray.init(address, log_to_driver=False, configure_logging=False)
    except (ConnectionError, ValueError) as error:
        came = f"{address}: no Ray cluster that takes our token ({' '.join(str(error).split())[:120]})"
        allowed = "a running head, and its token in RAY_AUTH_TOKEN or ~/.ray/auth_token, are wanted"
        raise user_error("cluster.address", came, allowed) from None
    except (ray.exceptions.AuthenticationError, RuntimeError) as error:
        came = f"{address}: the cluster turned us down ({' '.join(str(error).split())[:160]})"
        raise user_error(
            "cluster.address", came, "its token is wanted in RAY_AUTH_TOKEN or ~/.ray/auth_token"
        ) from None
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _no_native_stderr() -> Iterator[None]:
    """Ray's C++ writes a line each time that it tries; what came of it, it raises."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _quieten_ray() -> None:
    """What Ray tells of itself breaks into a bar; its import, which must come first, sets INFO."""
    logging.getLogger("ray").setLevel(logging.WARNING)


@contextmanager
def _own_folder() -> Iterator[Path]:
    """A short-named folder for Ray's sockets and logs; those of commands that were killed are swept away first.

    A lock, which dies with its process, says whether a folder is in use."""
    base = Path(tempfile.gettempdir())
    if len(str(base)) > 20:
        base = Path("/tmp")  # a Unix socket's path has 107 characters at most, and Ray's own part takes 70
    for old in base.glob(f"{FOLDER_PREFIX}*"):
        _sweep(old)
    folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=base))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _sweep(folder: Path) -> None:
    with contextlib.suppress(OSError):
        found = folder.stat()
        if found.st_uid != os.getuid() or time.time() - found.st_mtime < YOUNGEST_SWEPT_SECONDS:
            return
        with (folder / "lock").open("r+") as lock:
            if _locks(lock):
                shutil.rmtree(folder, ignore_errors=True)


def _locks(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _keep_logs(folder: Path, kept: Path) -> None:
    with contextlib.suppress(OSError):
        shutil.rmtree(kept, ignore_errors=True)
        for found in folder.glob("session_2*/logs"):
            shutil.copytree(found, kept, dirs_exist_ok=True, ignore_dangling_symlinks=True)
