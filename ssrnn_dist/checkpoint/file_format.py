"""A rank's tensors as the bytes of a safetensors file, in one buffer of host memory that is used again and again.

Imports torch; the layout is a pure function. Whoever has the buffer hashes, writes and sends it as it is."""

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_NAMES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def layout(tensors: Mapping[str, Tensor]) -> tuple[bytes, dict[str, tuple[int, int]]]:
    """The file's header, and from which byte of the file to which each tensor lies.

    Wide numbers first, so that each lies at a multiple of its own width."""
    order = sorted(tensors, key=lambda key: (-tensors[key].element_size(), key))
    entries: dict[str, Any] = {}
    at = 0
    for key in order:
        value = tensors[key]
        end = at + math.prod(value.shape) * value.element_size()
        entries[key] = {"dtype": _NAMES[value.dtype], "shape": list(value.shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    header = len(text).to_bytes(8, "little") + text
    spans = {key: entry["data_offsets"] for key, entry in entries.items()}
    return header, {key: (len(header) + start, len(header) + end) for key, (start, end) in spans.items()}


class HostBuffer:
    """Host memory for one file, pinned where the tensors come from a GPU. file: the last one, until the next fill."""

    def __init__(self) -> None:
        self.file = memoryview(b"")
        self._bytes = torch.empty(0, dtype=torch.uint8)

    @torch.no_grad()
    def fill(self, tensors: Mapping[str, Tensor]) -> memoryview:
        """Copy the tensors in, all of them by the time this returns, and give the file."""
        header, spans = layout(tensors)
        size_bytes = max((end for _, end in spans.values()), default=len(header))
        devices = {value.device for value in tensors.values() if value.is_cuda}
        self._reserve(size_bytes, pinned=bool(devices))
        self._bytes[: len(header)] = torch.frombuffer(bytearray(header), dtype=torch.uint8)
        for key, (start, end) in spans.items():
            value = tensors[key]
            place = self._bytes[start:end].view(value.dtype).view(value.shape)
            place.copy_(value, non_blocking=True)
        for device in devices:
            torch.cuda.current_stream(device).synchronize()
        self.file = memoryview(self._bytes.numpy())[:size_bytes]  # type: ignore[arg-type]
        return self.file

    def _reserve(self, size_bytes: int, pinned: bool) -> None:
        """A little more than asked for: the header's numbers may get longer."""
        if self._bytes.numel() < size_bytes or (pinned and not self._bytes.is_pinned()):
            self.file, self._bytes = memoryview(b""), torch.empty(0)  # the old one is given back first
            self._bytes = torch.empty(size_bytes + (1 << 16), dtype=torch.uint8, pin_memory=pinned)
