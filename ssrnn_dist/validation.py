"""What a run's held-out texts say: of each corpus, and of all together.

Pure but for the model; the streams are data.py's."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ssrnn_data import EvaluationStream
from ssrnn_dist.evaluate import Evaluation, NatsOf, evaluate


@dataclass(frozen=True)
class Validation:
    """The evaluation of each held-out split, by its corpus's name."""

    by_source: Mapping[str, Evaluation]

    @property
    def total(self) -> Evaluation:
        """Of all splits as one text: a corpus weighs as many tokens as it holds out."""
        parts = self.by_source.values()
        return Evaluation(
            nats=sum(each.nats for each in parts),
            tokens=sum(each.tokens for each in parts),
            text_bytes=sum(each.text_bytes for each in parts),
        )


def validate(
    nats_of: NatsOf, streams: Mapping[str, EvaluationStream], sum_over_ranks: Callable[[Tensor], Tensor]
) -> Validation | None:
    """One split after the other, by all ranks together; None where there is none."""
    found = {name: evaluate(nats_of, stream, sum_over_ranks) for name, stream in streams.items()}
    return Validation(found) if found else None
