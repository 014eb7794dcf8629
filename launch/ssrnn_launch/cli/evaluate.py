"""`ssrnn eval`: how well a checkpoint predicts a text."""

from typing import Annotated

import typer

from ssrnn_launch.cli import output
from ssrnn_launch.cli.options import DebugOption, JsonOption


def evaluate(
    checkpoint: Annotated[str, typer.Argument(help="A run's folder, or one of its checkpoints; or a run's URL.")],
    data: Annotated[str, typer.Argument(help="A corpus's folder or index.json, as path or URL, or a text.")],
    split: Annotated[str, typer.Option(help="Which split of a corpus.")] = "valid",
    lanes: Annotated[int, typer.Option(min=1, help="Texts that are read in parallel.")] = 16,
    sequence_length: Annotated[int, typer.Option(min=1, help="Tokens of one window.")] = 256,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure perplexity and bits per byte, the hidden state carried from window to window.

    Example: ssrnn eval runs/quickstart corpora/stdlib
    """
    from ssrnn_dist.evaluate import evaluate_checkpoint
    from ssrnn_launch.progress import counted_progress

    with counted_progress("evaluating") as progress:
        found = evaluate_checkpoint(
            checkpoint, data, lanes=lanes, sequence_length=sequence_length, split=split, progress=progress
        )
    if output.as_json():
        output.emit_json(found)
        return
    output.pairs(
        {
            "checkpoint": found["checkpoint"],
            "step": f"{found['step']:,}",
            "split": found["split"],
            "tokens": f"{found['tokens']:,}",
            "loss": f"{found['loss']:.4f} nats a token",
            "perplexity": f"{found['perplexity']:.3f}",
            "bits per byte": f"{found['bits_per_byte']:.4f}",
        }
    )
