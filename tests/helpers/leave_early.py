"""Run by the tests as one rank: holds its group, as DeepSpeed does, and leaves it while gloo's threads have sums to do.

RANK=… WORLD_SIZE=… MASTER_ADDR=127.0.0.1 MASTER_PORT=… python leave_early.py"""

import torch
import torch.distributed as dist

from ssrnn_dist.world import end_process, joined_world

torch.set_num_threads(1)
with joined_world(uses_gpu=False):
    held = dist.group.WORLD
    for _ in range(5000):
        dist.all_reduce(torch.zeros(3), async_op=True)
print("left")
end_process(0)
