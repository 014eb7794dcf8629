"""Run by the tests as one rank of a group: trains every config of a list, one after the other, in one process.

RANK=… WORLD_SIZE=… MASTER_ADDR=127.0.0.1 MASTER_PORT=… python train_many.py CONFIG …"""

import sys

import torch

from ssrnn_dist.config import load_config
from ssrnn_dist.runs import prepare_run
from ssrnn_dist.train import train
from ssrnn_dist.world import end_process, joined_world

torch.set_num_threads(1)
with joined_world(uses_gpu=False) as world:
    for path in sys.argv[1:]:
        config = load_config(path)
        if world.is_first:
            prepare_run(config)
        world.first_says(0)
        train(config)
end_process(0)
