"""The training loop. It runs alone, under torchrun, or under Ray, which it never imports.

python -m ssrnn_dist.train CONFIG [--set section.key=value]"""

import sys
import traceback
from contextlib import nullcontext
from typing import Any

from ssrnn_data import DataError
from ssrnn_dist.alone import AloneHooks
from ssrnn_dist.config import RunConfig, load_config
from ssrnn_dist.hooks import RunHooks
from ssrnn_dist.problems import RunFailed, UserError
from ssrnn_dist.runs import prepare_run
from ssrnn_dist.session import open_session
from ssrnn_dist.storage.mirror import RunMirror, mirror_of
from ssrnn_dist.storage.remote import RemoteFailed
from ssrnn_dist.world import attempt, end_process, joined_world


def train(config: RunConfig, hooks: RunHooks | None = None) -> dict[str, Any]:
    """Train a run to its last step, from its newest checkpoint on; every rank calls this.

    Returns rank 0's summary (docs/runs.md), {} on the others. Stops early, with a checkpoint, when the host asks.
    UserError or DataError: the input is wrong.  RunFailed: it cannot go on."""
    hooks = hooks or AloneHooks(config)
    with (
        joined_world(uses_gpu=config.scale.gpus_per_worker > 0) as world,
        open_session(config, world, hooks) as session,
    ):
        while session.step < config.train.steps and not session.stop_asked():
            batch = session.next_batch()
            session.learn(batch)
            if session.due(config.train.validate_every_steps):
                session.validate()
            if session.due(config.train.log_every_steps) or session.valid is not None:
                session.log()
            if session.save_is_due():
                session.save()
        return session.finish()


def main(arguments: list[str]) -> int:
    """Train the config that the arguments name; 0: done, 1: it failed, 2: the input is wrong."""
    try:
        if not arguments or arguments[0].startswith("-"):
            print(__doc__, file=sys.stderr)
            return 0 if arguments[:1] == ["--help"] else 2
        overrides = [word for word in arguments[1:] if word != "--set"]
        _train_here(load_config(arguments[0], overrides))
    except (UserError, DataError) as error:
        print(*(f"error: {line}" for line in str(error).splitlines()), sep="\n", file=sys.stderr)
        return 2
    except (RunFailed, RemoteFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception:  # ours to mend: Python's own exit would print it as well, and may abort (world.end_process)
        traceback.print_exc()
        return 1
    return 0


def _train_here(config: RunConfig) -> None:
    mirror: RunMirror | None = None

    def prepare() -> None:
        nonlocal mirror
        mirror = mirror_of(config, lambda message: print(f"warning: {message}", file=sys.stderr))
        prepare_run(config)

    with joined_world(uses_gpu=config.scale.gpus_per_worker > 0) as world:
        world.all_well(attempt(lambda: prepare() if world.is_first else None), "preparing the run")
        hooks = AloneHooks(config, sys.stderr)
        hooks.stop_on_signals()
        with mirror.pushing() if mirror else nullcontext():
            train(config, hooks)


if __name__ == "__main__":
    end_process(main(sys.argv[1:]))
