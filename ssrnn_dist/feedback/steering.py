"""What the layers' rules learn between optimizer steps, from what all ranks saw: calibrated decays, `auto` sweeps.

Imports torch; the sum over ranks is given. Every rank calls the same methods in the same order."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from ssrnn_dist.feedback.fidelity import BY_BPTT, fidelity, next_sweeps
from ssrnn_dist.feedback.layer_feedback import LayerFeedback

LOOK_EVERY_STEPS = 100  # without probes: how often a layer that does not sweep does, to see what it would come to


class Steering:
    """The rules of a model's layers from step to step; keeps what they tell until it is logged.

    A layer in a loop of your own needs it for `calibrated` and `auto` (docs/method.md).
    sum_over_ranks: adds a tensor up over the ranks that train together; None: there is one."""

    def __init__(self, layers: list[LayerFeedback], sum_over_ranks: Callable[[Tensor], Tensor] | None = None) -> None:
        self.layers, self._sum = layers, sum_over_ranks or (lambda tensor: tensor)
        self._increments = torch.zeros(len(layers), 4, dtype=torch.float64)

    @contextmanager
    def observed(self) -> Iterator[None]:
        """Forwards under no_grad while this lasts give calibrated decays their first value."""
        layers = [layer for layer in self.layers if layer.calibrates]
        for layer in layers:
            layer.observing = True
        try:
            yield
        finally:
            for layer in layers:
                layer.observing = False
        self.recalibrate()

    def before_step(self, step: int) -> None:
        """step: optimizer steps done. A layer that `auto` keeps from sweeping looks now and then."""
        for layer in self.layers:
            every = layer.config.probe_every or LOOK_EVERY_STEPS
            layer.looking = layer.is_auto and layer.refinements in (0, BY_BPTT) and step % every == 0

    def recalibrate(self) -> None:
        """Move every calibrated decay, by the same value on each rank."""
        for layer in self.layers:
            if layer.calibrates:
                layer.recalibrate(self._sum(layer.take_diagonal()))

    def after_step(self) -> None:
        """Move the decays and the sweeps by what the step showed."""
        if not self.layers:  # a model without recurrence
            return
        self.recalibrate()
        told = torch.stack([layer.take_increments().cpu() for layer in self.layers])
        self._increments += told
        if not any(layer.is_auto for layer in self.layers):
            return
        for layer, sums_4 in zip(self.layers, self._sum(told), strict=True):
            if layer.is_auto and layer.sweeps:
                layer.refinements = next_sweeps(layer.sweeps, fidelity(sums_4), layer.config.tolerance)

    def take_increments(self) -> Tensor:
        """(layers, 4): this rank's sums since the last call, to be added over ranks."""
        taken, self._increments = self._increments, torch.zeros_like(self._increments)
        return taken
