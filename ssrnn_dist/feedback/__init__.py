"""The learning rule: how a gradient flows back through time without BPTT's chain of Jacobians (docs/method.md)."""

from ssrnn_dist.feedback.fidelity import Fidelity
from ssrnn_dist.feedback.layer_feedback import LayerFeedback
from ssrnn_dist.feedback.recurrence import recurrence, recurrence_of_chunk
from ssrnn_dist.feedback.steering import Steering

__all__ = ["Fidelity", "LayerFeedback", "Steering", "recurrence", "recurrence_of_chunk"]
