"""The evaluation stream: whole documents dealt to lanes, every token an input once and every target counted once.

Shapes: B this rank's lanes, T tokens a window. The sum of nats doesn't depend on lanes or ranks.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ssrnn_data.errors import data_error
from ssrnn_data.index import CorpusIndex, as_index
from ssrnn_data.lanes import ShardSequence, check_counts, check_rank, split_at_documents
from ssrnn_data.reader import TokenReader, allow_open_files
from ssrnn_data.stream import IGNORED_TARGET, Batch


class EvaluationStream:
    """Iterates over this rank's batches, anew each time; all ranks yield the same number of batches.

    Each lane is a run of consecutive documents. A document's targets are its tokens after <|endoftext|> and then one
    <|endoftext|>, a lane's last document's too. Ragged ends hold <|endoftext|> as input, -100 as target, reset true.
    A lane that has ended is left out: a batch's rows are the first B rows of the batch before, and B can come to 0.
    """

    def __init__(
        self,
        index: CorpusIndex | str | Path,
        *,
        split: str = "valid",
        lanes: int,
        sequence_length: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """index: a CorpusIndex, index.json or its folder.

        Raises DataError for an unknown split, numbers out of range, a bad shard.
        """
        check_counts(lanes=lanes, sequence_length=sequence_length)
        check_rank(rank, world_size)
        self._index = as_index(index)
        self._split = self._index.split(split)
        if self._split.tokens == 0:
            raise data_error(f"{split} split", "it holds no tokens", "a split with at least one document is needed")
        self._sequence = ShardSequence.of(
            [shard.tokens for shard in self._split.shards], np.arange(len(self._split.shards))
        )
        self.sequence_length = sequence_length
        self._ranges = split_at_documents(self._split.tokens, lanes, self._document_start)
        longest_first = sorted(range(len(self._ranges)), key=lambda lane: -len(self._ranges[lane]))
        self.lanes = longest_first[rank::world_size]
        self._batches = -(-len(self._ranges[longest_first[0]]) // sequence_length)

    @property
    def tokens_total(self) -> int:
        """Tokens of the split, which is also the number of targets over all ranks."""
        return self._split.tokens

    @property
    def text_bytes(self) -> int:
        """UTF-8 bytes of the split's text: bits per byte = nats / ln 2 / text_bytes."""
        return self._split.text_bytes

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[Batch]:
        allow_open_files(len(self.lanes))
        readers: list[TokenReader] = []
        try:
            for lane in self.lanes:
                readers.append(TokenReader(self._index, self._split, self._sequence, self._ranges[lane].start))
            last_B = np.empty(len(readers), np.int64)
            for place, reader in enumerate(readers):
                reader.fill(last_B[place : place + 1])
            for window in range(self._batches):
                yield self._batch(window, readers, last_B)
        finally:
            for reader in readers:
                reader.close()

    def _batch(self, window: int, readers: list[TokenReader], last_B: np.ndarray) -> Batch:
        """One window of every lane that has not ended; last_B, the next input of each, is moved on."""
        steps, end_of_text = self.sequence_length, self._index.end_of_text
        left_B = [len(self._ranges[lane]) - window * steps for lane in self.lanes]
        lanes = [lane for lane, left in zip(self.lanes, left_B, strict=True) if left > 0]
        row = np.full((len(lanes), steps + 1), end_of_text, np.int64)
        row[:, 0] = last_B[: len(lanes)]
        for place in range(len(lanes)):
            readers[place].fill(row[place, 1 : 1 + min(steps, left_B[place] - 1)])
        last_B[: len(lanes)] = row[:, -1]
        batch = Batch.from_rows(row, row[:, :-1] == end_of_text, lanes)
        for place in range(len(lanes)):
            batch.targets_BT[place, left_B[place] :] = IGNORED_TARGET
        return batch

    def _document_start(self, offset: int) -> int:
        """The first token at or after offset that begins a document, or the number of tokens."""
        # A sample that is entered in its middle must not be taken for a document's start: begin one token earlier.
        reader = TokenReader(self._index, self._split, self._sequence, offset - 1)
        at = offset - 1
        try:
            ids = reader.next_sample()
            while ids is not None:
                if at >= offset and ids[0] == self._index.end_of_text:
                    return at
                at += len(ids)
                ids = reader.next_sample()
        finally:
            reader.close()
        return self._split.tokens
