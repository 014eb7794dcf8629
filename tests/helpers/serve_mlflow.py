"""MLflow's real server application over TLS, behind a name and a password: the process of a test's server.

python serve_mlflow.py PORT FOLDER CERTIFICATE KEY USER PASSWORD"""

import base64
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any


def main(port: int, folder: str, certificate: str, key: str, user: str, password: str) -> None:
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/server.db",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": f"{folder}/server-artifacts",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }
    from mlflow.server import app
    from mlflow.server.handlers import _get_tracking_store
    from werkzeug.serving import make_server

    _get_tracking_store()  # makes the tables, before anybody waits for an answer

    guarded = _with_password(app.wsgi_app, f"{user}:{password}")
    make_server("127.0.0.1", port, guarded, threaded=True, ssl_context=(certificate, key)).serve_forever()


def _with_password(app: Any, user_and_password: str) -> Any:
    wanted = "Basic " + base64.b64encode(user_and_password.encode()).decode()

    def guarded(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ.get("HTTP_AUTHORIZATION") == wanted:
            return app(environ, start_response)  # type: ignore[no-any-return]
        start_response("401 Unauthorized", [("WWW-Authenticate", 'Basic realm="mlflow"')])
        return [b"who are you?"]

    return guarded


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
