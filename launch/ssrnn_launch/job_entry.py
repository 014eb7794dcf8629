"""What a submitted job runs on its cluster: `ssrnn train` on the config beside it, on the Ray that is already there."""

import sys

from ssrnn_launch.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:], "--set", "cluster.address=auto"]))
