"""How many tokens a run's tokenizer has, and how much is held out, from its corpus or `build`. Reads indexes."""

from dataclasses import dataclass

from ssrnn_data import DataError
from ssrnn_dist.config import RunConfig
from ssrnn_dist.problems import user_error


@dataclass(frozen=True)
class Text:
    """What a plan asks of a corpus. valid_tokens: of a validation; None: not known."""

    vocab_size: int
    valid_tokens: int | None


def corpus_stands(config: RunConfig) -> bool:
    """Can the run's corpora be opened now?"""
    from ssrnn_dist.data import open_corpora

    try:
        open_corpora(config)
    except (DataError, OSError):
        return False
    return True


def text_of(config: RunConfig, vocab_size: int | None) -> Text:
    """vocab_size: given on the command line, where no corpus stands. UserError where nothing says it."""
    from ssrnn_dist.data import open_corpora

    build = config.data.build
    try:
        corpora = open_corpora(config)
    except (DataError, OSError):
        if vocab_size is not None or (build is not None and build.tokenizer is None):
            return Text(vocab_size or build.vocab_size, None)  # type: ignore[union-attr]
        where = ", ".join(each.index for each in config.data.sources)
        raise user_error(
            "data", f"no corpus at {where}, so the size of its vocabulary is not known", "--vocab-size is wanted"
        ) from None
    known = corpora[0].index.vocab_size
    if vocab_size not in (None, known):
        raise user_error("--vocab-size", str(vocab_size), f"the corpus has {known}: leave it out")
    valid = sum(each.index.splits["valid"].tokens for each in corpora if "valid" in each.index.splits)
    return Text(known, valid)
