"""SS-RNN: distributed pretraining of recurrent language models without backpropagation through time."""

import os

__version__ = "0.1.0"

# A thread of OpenMP that waits spins for milliseconds by default, and where processes share cores it spins where the
# other one would compute: two runs on two cores were 3 to 4 times as slow (LOG.md). So it soon sleeps. Read by torch
# when it is imported, hence here.
if not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & os.environ.keys():
    os.environ["GOMP_SPINCOUNT"] = "1000"  # about 15 µs
