"""Run by a test as one rank of two: the second rank's disk takes no large file from the second checkpoint on.

RANK=… WORLD_SIZE=2 python one_full_disk.py FOLDER"""

import resource
import sys
from pathlib import Path

import torch

from ssrnn_dist.checkpoint.places import Contents
from ssrnn_dist.checkpoint.retention import Retention
from ssrnn_dist.checkpoint.writer import CheckpointWriter, Destination
from ssrnn_dist.world import end_process, joined_world

torch.set_num_threads(1)
with joined_world(uses_gpu=False) as world:
    writer = CheckpointWriter(Destination(Path(sys.argv[1])), world, Retention(keep=2))
    for step in (1, 2, 3):
        if step == 2:
            writer.wait()
        if step == 2 and world.rank == 1:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        try:
            writer.start({"weight/a@0": torch.full((100_000,), float(step))}, Contents(step, {}, {}))
        except Exception as error:
            print(f"step {step}: {type(error).__name__} {getattr(error, 'errno', None)} {error}", flush=True)
            break
end_process(0)
