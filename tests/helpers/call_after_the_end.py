"""Starts and ends a Ray of our own, then calls into Ray from another thread, as Ray Train's may; prints what came."""

import threading
from pathlib import Path

from ssrnn_launch.ray_session import local_ray


def call() -> None:
    import ray

    try:
        ray.put(1)
    except Exception as error:
        print(type(error).__name__)
    print("a second Ray" if ray.is_initialized() else "no Ray")


if __name__ == "__main__":
    with local_ray(1, {}, Path("logs")):
        pass
    late = threading.Thread(target=call)
    late.start()
    late.join()
