"""Where a run's MLflow is: the store's address from the config, the page of a run, the command that opens it.

Imports the config; mlflow itself is mlflow_client.py's."""

import json
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from ssrnn_dist.config.cost import is_no_server
from ssrnn_dist.config.run import RunConfig
from ssrnn_dist.problems import user_error
from ssrnn_dist.tracking.facts import without_password

DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
SERVERS = ("http", "https")
DATABASE_FILE = "mlflow.db"


def tracking_uri(config: RunConfig) -> str:
    """The address of MLflow's store: tracking.uri, or SQLite in run_root, absolute. UserError for an unusable one."""
    if config.tracking.uri is not None:
        return check_uri(config.tracking.uri, "tracking.uri")
    root = local_root(config)
    root.mkdir(parents=True, exist_ok=True)
    return sqlite_uri(root)


def local_root(config: RunConfig) -> Path:
    """The folder of all runs, on this node."""
    return config.folder.absolute().parent


def sqlite_uri(root: Path) -> str:
    """The store beside the runs of a folder. UserError for a path that MLflow's SQLite cannot take."""
    database = root.absolute() / DATABASE_FILE
    if any(sign in str(database) for sign in "%?"):
        raise user_error("run_root", str(database.parent), "MLflow's SQLite takes no '%' or '?' in its path")
    return f"sqlite:///{database}"


def check_uri(uri: str, where: str) -> str:
    """An address that MLflow can take, as it is. UserError for another."""
    scheme = uri.partition(":")[0].partition("+")[0] if "://" in uri else ""
    if is_no_server(uri):
        raise user_error(where, without_password(uri), "a server's host, such as http://mlflow:5000, is wanted")
    if scheme not in (*SERVERS, *DATABASES):
        allowed = ", ".join(f"{each}://" for each in (*SERVERS, *DATABASES))
        raise user_error(where, without_password(uri), f"an address that starts with one of {allowed} is wanted")
    return uri


def artifact_location(config: RunConfig) -> str | None:
    """Where artifacts go: beside the SQLite file of run_root; a server or a database of the user's decides itself."""
    return (local_root(config) / "mlartifacts").as_uri() if config.tracking.uri is None else None


def page_of(uri: str, experiment_id: str, run_id: str) -> str:
    """Where a person looks at the run: its page on a server, else the store's address; no password in it."""
    shown = without_password(uri).replace("***@", "")
    if urlsplit(uri).scheme not in SERVERS:
        return shown
    return f"{shown.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}"


def open_command(uri: str) -> str:
    """The one shell command that opens this MLflow on 127.0.0.1; for a server, the one that opens its page."""
    address = shlex.quote(without_password(uri))
    if urlsplit(uri).scheme in SERVERS:
        return f"python -m webbrowser {address}"
    serve = f"{_mlflow_command()} ui --host 127.0.0.1 --workers 1"  # its usual four take a minute to start
    return f"MLFLOW_DISABLE_TELEMETRY=true {serve} --backend-store-uri {address}"


def _mlflow_command() -> str:
    """`mlflow` as this environment has it, so that the command works where the environment is not activated."""
    beside_python = Path(sys.executable).parent / "mlflow"
    if not beside_python.is_file():
        return "mlflow"
    inside_cwd = beside_python.is_relative_to(Path.cwd())
    return shlex.quote(str(beside_python.relative_to(Path.cwd()) if inside_cwd else beside_python))


@dataclass(frozen=True)
class Known:
    """What a run folder's mlflow.json says.

    run_id: MLflow's id of the run.  mark: ours, made before MLflow is first asked, and a tag of the run: by it a run is
    found that MLflow began without our hearing its id."""

    run_id: str | None = None
    mark: str | None = None


def read_known(path: Path) -> Known:
    """Of a run folder's mlflow.json; nothing where there is none yet, or it is no such file."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Known()
    values = saved if isinstance(saved, dict) else {}
    return Known(**{key: values[key] for key in ("run_id", "mark") if isinstance(values.get(key), str)})
