"""A run that stands already, looked at before anything is started for it: would `train` go on with this config?

Reads a little of a store or a folder, with little patience, and writes nothing."""

from functools import partial

import yaml

from ssrnn_data.remote.files import Retry
from ssrnn_dist.config import RunConfig, check_config
from ssrnn_dist.runs import check_unchanged, has_trained, names_in
from ssrnn_dist.storage.remote import RemoteFolder

LOOK = Retry(attempts=1, stall_seconds=10.0)  # whoever runs the job has the patience
STORED = "config.yaml"


def check_goes_on(config: RunConfig) -> None:
    """UserError for each key that changes a run midway; nothing where the run is new, or can't be seen from here.

    The paths of the config are absolute."""
    try:
        folder, was = _stored(config)
    except (OSError, ValueError, yaml.YAMLError):  # RemoteFailed, DataError, no config of ours: the job looks again
        return
    if was is not None:
        check_unchanged(was, config, folder)


def _stored(config: RunConfig) -> tuple[str, RunConfig | None]:
    """Where a run stands, and its config there; None where it has not trained."""
    if config.remote_folder is None:
        folder = config.folder
        names, where, read = names_in(folder), str(folder), (folder / STORED).read_bytes
    else:
        remote = RemoteFolder(config.remote_folder, LOOK)
        names = list(remote.sizes())
        where, read = remote.shown, partial(remote.read, STORED)
    if STORED not in names or not has_trained(names):
        return where, None
    return where, check_config(yaml.safe_load(read()), f"{where}/{STORED}")
