"""One rank of a check: trains as a worker under Ray does, its books kept by nobody, and says how that went.

python -m ssrnn_launch.plan.check_rank CONFIG OUT GROUPS. Imports the trainer; the environment has the group."""

import json
import os
import sys
from pathlib import Path

from ssrnn_dist.config import load_config
from ssrnn_dist.hooks import RunHooks, StepMetrics
from ssrnn_dist.world import end_process
from ssrnn_launch.plan.process_memory import peak_resident_bytes


class RateHooks(RunHooks):
    """Notes the tokens a second of each logged group of steps, and stops the run after enough: no validation then."""

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.tokens_per_second: list[float] = []

    def should_stop(self) -> bool:
        return len(self.tokens_per_second) >= self.groups

    def report(self, metrics: StepMetrics) -> None:
        self.tokens_per_second.append(metrics.tokens_per_second)


def main(config_path: str, out: str, groups: str) -> None:
    """Train so many groups of logged steps, as this rank; rank 0's rates and every rank's peak go to OUT.RANK."""
    import torch

    from ssrnn_dist.train import train

    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    hooks = RateHooks(int(groups))
    train(load_config(config_path), hooks)
    found = {"tokens_per_second": hooks.tokens_per_second, "peak_bytes": peak_resident_bytes()}
    Path(f"{out}.{os.environ['RANK']}").write_text(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
    end_process(0)
