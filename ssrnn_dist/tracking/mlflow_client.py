"""MLflow's client, quiet and quick to give up. The only file that imports mlflow.

Imports mlflow inside functions: it takes seconds."""

import logging
import os
from typing import Any

from ssrnn_dist.tracking.facts import without_password

MISSING, TAKEN, REFUSED = "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "INVALID_PARAMETER_VALUE"
MOST_METRICS_IN_BATCH, MOST_PARAMS_IN_BATCH = 1000, 100  # MLflow's limits


def connect(uri: str) -> Any:
    """MLflow's client of a store; nothing is asked of it yet."""
    _quiet_environment()
    from mlflow import MlflowClient
    from mlflow.telemetry import set_telemetry_client

    set_telemetry_client()  # reads the environment again: DeepSpeed may have loaded mlflow before us
    logging.getLogger("mlflow").setLevel(os.environ["MLFLOW_LOGGING_LEVEL"])
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def metric(key: str, value: float, time_ms: int, step: int) -> Any:
    from mlflow.entities import Metric

    return Metric(key, value, time_ms, step)


def param(key: str, value: str) -> Any:
    from mlflow.entities import Param

    return Param(key, value)


def tag(key: str, value: str) -> Any:
    from mlflow.entities import RunTag

    return RunTag(key, value)


def code_of(error: Exception) -> str | None:
    """MLflow's own code of an error; None for others'."""
    return getattr(error, "error_code", None)


def one_line(error: Exception) -> str:
    """Its beginning and its end, where requests' errors name the cause; no password in it."""
    text = " ".join(without_password(str(error)).split())
    return f"{type(error).__name__}: {text if len(text) <= 300 else f'{text[:120]} … {text[-160:]}'}"


def _quiet_environment() -> None:
    """No telemetry, no chatter, and no long waits: the outbox itself tries again. Set before mlflow is imported."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "8")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
