"""For how long this process has lived, by the operating system's own record. Imports psutil."""

import time

import psutil


def process_age_seconds() -> float:
    return time.time() - psutil.Process().create_time()
