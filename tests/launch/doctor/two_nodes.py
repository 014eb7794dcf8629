"""A Ray cluster of two nodes on loopback, each started in a working folder of its own; ends when stdin does.

python two_nodes.py FOLDER: prints the address once both nodes live."""

import os
import sys
from pathlib import Path

import ray.cluster_utils
from ray._private.utils import get_ray_address_file

ADDRESS = "127.0.0.2"  # Ray would take 127.0.0.1 for the machine's outward address

if __name__ == "__main__":
    base = Path(sys.argv[1])
    Path(get_ray_address_file(None)).parent.mkdir(exist_ok=True)  # Cluster writes there whatever its own folder is
    cluster = ray.cluster_utils.Cluster()
    for name in ("a", "b"):
        (base / name).mkdir()
        os.chdir(base / name)
        own = {"include_dashboard": False, "temp_dir": str(base / "ray")} if name == "a" else {}
        cluster.add_node(node_ip_address=ADDRESS, num_cpus=1, object_store_memory=80_000_000, **own)
    print(cluster.address, flush=True)
    sys.stdin.read()
    cluster.shutdown()
