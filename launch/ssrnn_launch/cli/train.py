"""`ssrnn train`: a run on this machine, or on the cluster that the config names."""

import typer

from ssrnn_launch.cli.options import (
    ConfigArgument,
    DebugOption,
    FreshOption,
    JsonOption,
    SetOption,
    WorkersOption,
    overrides,
)


def train(
    config: ConfigArgument,
    set_values: SetOption = None,
    workers: WorkersOption = None,
    fresh: FreshOption = False,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Train a run, or go on with it: the same command resumes from the newest checkpoint.

    Ctrl-C saves a checkpoint and ends within seconds; a second one ends at once.

    Example: ssrnn train launch/configs/laptop.yaml --workers 2 --set train.steps=500
    """
    from ssrnn_dist.config import load_config
    from ssrnn_launch.local import train_locally
    from ssrnn_launch.summary import show_summary

    result = train_locally(load_config(config, overrides(set_values, workers)), fresh=fresh)
    show_summary(result)
    if result.stopped_by is not None:
        raise typer.Exit(128 + result.stopped_by)
