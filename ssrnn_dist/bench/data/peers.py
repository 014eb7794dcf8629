"""Which peers can be measured, and by which Python: Streaming's pins and ours do not fit one environment.

Imports the standard library; a peer is never imported here."""

import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ssrnn_dist.problems import user_error

READERS = ("mosaicml-streaming", "litdata")
BUILDER = "datasets"
PEERS = (*READERS, BUILDER)
_SAY_VERSION = "import sys, importlib.metadata as m; print(m.version(sys.argv[1]))"


@dataclass(frozen=True)
class Peer:
    """An installed package and the Python that has it."""

    name: str
    version: str
    python: str


def pythons_of(given: Iterable[str]) -> dict[str, str]:
    """NAME=PATH of --python, for every peer; this Python where none is given. UserError for another form or name."""
    pythons = dict.fromkeys(PEERS, sys.executable)
    for text in given:
        name, is_given, path = text.partition("=")
        if name not in PEERS or not is_given or not path:
            allowed = f"NAME=PATH is allowed, of {', '.join(PEERS)} and a Python that has it"
            raise user_error("--python", repr(text), allowed)
        pythons[name] = path
    return pythons


def installed(pythons: Mapping[str, str]) -> tuple[dict[str, Peer], list[str]]:
    """The peers that are there, by name, and a line for each that is not. UserError for a path that is no Python."""
    found, left_out = {}, []
    for name, python in pythons.items():
        try:
            said = subprocess.run([python, "-c", _SAY_VERSION, name], capture_output=True, text=True, timeout=60)
        except OSError as error:
            raise user_error("--python", f"{python!r} ({error.strerror})", "the path of a Python is allowed") from None
        if said.returncode == 0:
            found[name] = Peer(name, said.stdout.strip(), python)
        else:
            left_out.append(how_to_install(name))
    return found, left_out


def how_to_install(name: str) -> str:
    """The line for a peer that is not there."""
    if name == "mosaicml-streaming":  # it wants numpy < 2.2 and transformers < 5
        return (
            f"{name} is left out: pip install {name} in an environment of its own, then --python {name}=ITS/bin/python"
        )
    return f"{name} is left out: pip install 'ssrnn-dist[peers]', or --python {name}=ITS/bin/python"
