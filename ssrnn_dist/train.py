"""The training loop. It runs alone, under torchrun, or under Ray, which it never imports.

python -m ssrnn_dist.train CONFIG [--set section.key=value]"""

import sys
from typing import Any

from ssrnn_dist.config import RunConfig, load_config
from ssrnn_dist.console import LineHooks
from ssrnn_dist.hooks import RunHooks
from ssrnn_dist.problems import UserError
from ssrnn_dist.runs import prepare_run
from ssrnn_dist.session import open_session
from ssrnn_dist.world import joined_world


def train(config: RunConfig, hooks: RunHooks | None = None) -> dict[str, Any]:
    """Train a run to its last step, from its newest checkpoint on; every rank calls this.

    Returns rank 0's summary (docs/runs.md), {} on the others. Stops early, with a checkpoint, when the host asks.
    UserError or DataError: the input is wrong.  RunFailed: it cannot go on."""
    hooks = hooks or RunHooks()
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
            if session.due(config.checkpoint.every_steps):
                session.save()
        return session.finish()


def main(arguments: list[str]) -> int:
    """Train the config that the arguments name; 0, or 2 where the input is wrong."""
    try:
        if not arguments or arguments[0].startswith("-"):
            print(__doc__, file=sys.stderr)
            return 0 if arguments[:1] == ["--help"] else 2
        overrides = [word for word in arguments[1:] if word != "--set"]
        config = load_config(arguments[0], overrides)
        with joined_world(uses_gpu=config.scale.gpus_per_worker > 0) as world:
            if world.is_first:
                prepare_run(config)
            world.first_says(0)
            train(config, LineHooks())
    except UserError as error:
        print(*(f"error: {problem}" for problem in error.problems), sep="\n", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
