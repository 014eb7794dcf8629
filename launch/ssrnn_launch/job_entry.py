"""What a submitted job runs on its cluster: `ssrnn train` on the config beside it, on the Ray that is already there."""

import sys
from pathlib import Path

import ssrnn_launch
from ssrnn_launch.cli.main import main

if __name__ == "__main__":
    print(f"code from {Path(ssrnn_launch.__file__).parent}", flush=True)
    sys.exit(main(["train", *sys.argv[1:], "--set", "cluster.address=auto"]))
