"""Text to ids and back, exactly: a byte-level BPE of the `tokenizers` library, its special token never read from text.

Every id stands for known bytes, so decoding is joining bytes; only what a model made up can be invalid UTF-8.
"""

import codecs
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ssrnn_data.cutting import cut_pieces
from ssrnn_data.errors import data_error

END_OF_TEXT = "<|endoftext|>"
LARGEST_VOCABULARY = 10_000_000
# What a tokenizer must bring back unchanged: odd spaces, line ends, BOM, NUL, joiners, combining marks, all planes.
PROBE = (
    "\ufeffZażółć  gęślą\tjaźń\r\n\x00\x7f\u00a0\u2028\u3000 e\u0301 é \ufb01 \u212b \u00c5 한글 日本語 "
    "\U0001f469\u200d\U0001f4bb \U00020000 \U0010ffff \ufffd don't  DON'T 1234567   \n\n\t x<|endoftext|>y   "
)


def byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: the character that stands for each of the 256 bytes in a byte-level vocabulary."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    alphabet = {chr(byte): byte for byte in printable}
    others = (byte for byte in range(256) if byte not in set(printable))
    return alphabet | {chr(0x100 + place): byte for place, byte in enumerate(others)}


class TextTokenizer:
    """A tokenizer.json whose ids give back exactly the text that they came from.

    vocab_size: number of ids. end_of_text: the id of <|endoftext|>, which encode() never gives. sha256: of the JSON.
    """

    def __init__(self, serialized: str, where: str = "tokenizer") -> None:
        """Raises DataError naming `where` for JSON that is no tokenizer, has no <|endoftext|> or isn't byte-level."""
        from tokenizers import Tokenizer

        allowed = f"a byte-level tokenizer.json that holds {END_OF_TEXT!r} is allowed"
        try:
            self._tokenizer = Tokenizer.from_str(serialized)
        except Exception as error:  # the library raises bare Exception
            raise data_error(where, f"not a tokenizer.json ({error})", allowed) from None
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        end_of_text = self._tokenizer.token_to_id(END_OF_TEXT)
        if end_of_text is None:
            raise data_error(where, f"no token {END_OF_TEXT!r} in its vocabulary", allowed)
        self.end_of_text: int = end_of_text
        self.serialized = serialized
        self.sha256 = hashlib.sha256(serialized.encode("utf-8")).hexdigest()
        self._bytes = _token_bytes(self._tokenizer, self.end_of_text)
        self.vocab_size = len(self._bytes)
        self._check_ids(where)
        if self._join(self._ids(PROBE)) != PROBE.encode("utf-8"):
            raise data_error(where, "text → ids → text changes the text (a normalizer, or not byte-level)", allowed)

    def _check_ids(self, where: str) -> None:
        """A vocabulary with holes can be given tokens whose ids are taken."""
        ids = sorted(self._tokenizer.get_vocab(with_added_tokens=True).values())
        twice = next((number for number, following in pairwise(ids) if number == following), None)
        if twice is not None:
            raise data_error(
                where, f"several tokens have the id {twice}", "a vocabulary whose ids have no holes is allowed"
            )

    @classmethod
    def from_path(cls, path: str | Path) -> "TextTokenizer":
        """A tokenizer.json, or a Hugging Face folder that holds one, or a vocab.json and merges.txt as GPT-2 has them.

        One that has no <|endoftext|> is given one, as its last id. DataError where there is none or it won't do.
        """
        path = Path(path)
        if not path.is_dir():
            return cls(_with_end_of_text(_text_of(path), str(path)), str(path))
        if (path / "tokenizer.json").is_file():
            return cls.from_path(path / "tokenizer.json")
        if (path / "vocab.json").is_file() and (path / "merges.txt").is_file():
            return cls(_with_end_of_text(_byte_level(path), str(path)), str(path))
        there = ", ".join(sorted(each.name for each in path.iterdir())[:10]) or "nothing"
        allowed = "a tokenizer.json, or a vocab.json with its merges.txt, is allowed"
        raise data_error(path, f"no tokenizer in this folder (there is: {there})", allowed)

    @classmethod
    def from_file(cls, path: str | Path) -> "TextTokenizer":
        """Reads a tokenizer.json; DataError where there is none or it won't do."""
        return cls(_text_of(Path(path)), str(path))

    def encode(self, text: str) -> list[int]:
        """The ids of a text of any length; a literal <|endoftext|> in it is plain text."""
        return [token for piece in cut_pieces([text]) for token in self._ids(piece)]

    def encode_batches(self, batches: Iterable[Sequence[str]]) -> Iterator[list[list[int]]]:
        """The ids of each text of each batch, on all cores; each text should be short (a piece).

        One batch is encoded while the one before is checked and used. Raises DataError where the ids would not give a
        text back exactly.
        """
        encode = partial(self._tokenizer.encode_batch_fast, add_special_tokens=False)
        with ThreadPoolExecutor(1) as pool:
            before: tuple[Sequence[str], Future[Any]] | None = None
            for texts in batches:
                now = (texts, pool.submit(encode, texts))
                if before is not None:
                    yield self._checked(before[0], before[1].result())
                before = now
            if before is not None:
                yield self._checked(before[0], before[1].result())

    def _checked(self, texts: Sequence[str], encodings: Sequence[Any]) -> list[list[int]]:
        ids = [encoding.ids for encoding in encodings]
        for text, tokens in zip(texts, ids, strict=True):
            if self._join(tokens) != text.encode("utf-8"):
                came = f"text → ids → text changes {text[:40]!r}"
                raise data_error("tokenizer", came, "a byte-level tokenizer without a normalizer is allowed")
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids, exactly; bytes that are no UTF-8 (ids cut within a character) become U+FFFD."""
        return self._join(ids).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """The UTF-8 bytes that an id stands for; b"" for <|endoftext|>, which is an edge and not text."""
        return self._bytes[token]

    def byte_lengths(self) -> np.ndarray:
        """(vocab_size,) int64: how many bytes each id stands for."""
        return np.array([len(data) for data in self._bytes])

    def save(self, path: Path) -> None:
        """Writes tokenizer.json, byte for byte what sha256 is of."""
        path.write_bytes(self.serialized.encode("utf-8"))

    def _ids(self, piece: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode(piece, add_special_tokens=False).ids
        return ids

    def _join(self, ids: Iterable[int]) -> bytes:
        return b"".join(map(self._bytes.__getitem__, ids))


def _text_of(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise data_error(path, f"can't be read ({error})", "a tokenizer.json is allowed") from error


def _with_end_of_text(serialized: str, where: str) -> str:
    """A tokenizer's JSON, as it is where it has the token."""
    from tokenizers import AddedToken, Tokenizer

    try:
        tokenizer = Tokenizer.from_str(serialized)
    except Exception as error:  # the library raises bare Exception
        raise data_error(where, f"not a tokenizer.json ({error})", "a byte-level tokenizer.json is allowed") from None
    if tokenizer.token_to_id(END_OF_TEXT) is not None:
        return serialized
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    added: str = tokenizer.to_str(pretty=False)
    return added


def _byte_level(folder: Path) -> str:
    """A vocab.json and merges.txt as a tokenizer.json."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    vocabulary, merges = str(folder / "vocab.json"), str(folder / "merges.txt")
    try:
        tokenizer = Tokenizer(models.BPE.from_file(vocabulary, merges))
    except Exception as error:  # the library raises bare Exception
        raise data_error(
            folder, f"its vocab.json or merges.txt can't be read ({error})", "GPT-2's are allowed"
        ) from None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    serialized: str = tokenizer.to_str(pretty=False)
    return serialized


def _token_bytes(tokenizer: Any, end_of_text: int) -> list[bytes]:
    """The bytes of each id. An added token stands for its own text, the others are spelt in the byte alphabet."""
    alphabet = byte_alphabet()
    added = tokenizer.get_added_tokens_decoder()
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    table = [b""] * (max(vocabulary.values()) + 1)
    for token, number in vocabulary.items():
        if number in added or not all(character in alphabet for character in token):
            table[number] = token.encode("utf-8")
        else:
            table[number] = bytes(alphabet[character] for character in token)
    table[end_of_text] = b""
    return table


class Utf8Streamer:
    """Turns successive ids into text, holding back bytes until their character is whole."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The text that this id completes, often several characters, sometimes none; U+FFFD only for invalid bytes."""
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def finish(self) -> str:
        """What is left at the end: "" or U+FFFD for a character that never became whole."""
        return self._decoder.decode(b"", final=True)


def train_tokenizer(pieces: Iterable[str], vocab_size: int) -> TextTokenizer:
    """Trains byte-level BPE on pieces of text: all 256 bytes, <|endoftext|> as id 0, no normalizer.

    vocab_size is the most it may become; a small sample gives fewer. DataError from `pieces` passes through.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(pieces, trainer)
    return TextTokenizer(tokenizer.to_str(pretty=False))


def check_vocab_size(vocab_size: int) -> None:
    """Raises DataError below 257 (256 bytes and <|endoftext|>) and where training would take all memory."""
    if not isinstance(vocab_size, int) or isinstance(vocab_size, bool) or not 257 <= vocab_size <= LARGEST_VOCABULARY:
        allowed = f"257 (256 bytes and <|endoftext|>) to {LARGEST_VOCABULARY:,} is allowed"
        raise data_error("vocab_size", f"{vocab_size!r} came", allowed)
