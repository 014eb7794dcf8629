"""Stand-ins: gradients are asked for of them, the owners have their own parameters back whatever happens."""

import gc
import weakref

import pytest
import torch
from torch import nn

from ssrnn_dist.model.stand_ins import standing_in, trained


def test_what_is_recorded_within_is_of_the_stand_ins_and_of_the_same_memory() -> None:
    layer = nn.Linear(3, 2)
    layer.bias.requires_grad_(False)
    own, x = dict(layer.named_parameters()), torch.randn(4, 3)
    with standing_in([layer]):
        stand_in = layer.weight
        assert trained(layer) == [stand_in]
        y = layer(x)
    assert dict(layer.named_parameters()) == own
    assert stand_in is not layer.weight
    assert stand_in.data_ptr() == layer.weight.data_ptr()
    to_ours, to_theirs = torch.autograd.grad(y.sum(), [layer.weight, stand_in], allow_unused=True)
    assert to_ours is None
    assert torch.equal(to_theirs, x.sum(dim=0).expand(2, 3))


def test_what_is_shared_has_one_stand_in() -> None:
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    second.weight = first.weight
    with standing_in([nn.Sequential(first, second), first]):
        assert first.weight is second.weight
    assert first.weight is second.weight


def test_autocast_keeps_nothing_of_them() -> None:
    layer = nn.Linear(3, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with standing_in([layer]):
            stand_in = weakref.ref(layer.weight)
            layer(torch.randn(4, 3))
        gc.collect()
        assert stand_in() is None


def test_an_error_within_leaves_the_owners_as_they_were() -> None:
    layer = nn.Linear(3, 2)
    own = dict(layer.named_parameters())
    with pytest.raises(RuntimeError, match="in the middle"), standing_in([layer]):
        raise RuntimeError("in the middle")
    assert dict(layer.named_parameters()) == own
