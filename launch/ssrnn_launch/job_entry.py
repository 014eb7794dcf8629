"""What a submitted job runs on its cluster: `ssrnn train` on the config beside it, on the Ray that is already there.

Its stdout is read by `ssrnn jobs`: records between plain lines (records.py)."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import ssrnn_launch
from ssrnn_dist.config import load_config
from ssrnn_dist.problems import Problem, UserError
from ssrnn_launch.cli import errors
from ssrnn_launch.cli.main import main
from ssrnn_launch.records import JOB_VARIABLE


def missing_secrets(secrets: Mapping[str, str], environment: Mapping[str, str]) -> list[Problem]:
    """Secrets travel by name: the cluster's nodes must have the variables already."""
    wanted = "the variable is wanted in the environment of the cluster's nodes, set where `ray start` is called"
    return [
        Problem(f"cluster.secrets.{variable}", "not in the environment of this cluster", wanted)
        for variable in secrets
        if not environment.get(variable)
    ]


def run(arguments: list[str]) -> int:
    """The exit code of `ssrnn train`; 2 where a secret is missing."""
    print(f"code from {Path(ssrnn_launch.__file__).parent}", flush=True)
    os.environ[JOB_VARIABLE] = "1"
    try:
        missing = missing_secrets(load_config(arguments[0]).cluster.secrets, os.environ)
        if missing:
            raise UserError(*missing)
    except UserError as error:
        return errors.tell(error)
    return main(["train", *arguments, "--set", "cluster.address=auto"])


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
