"""`ssrnn generate`: text from a checkpoint, as it comes."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ssrnn_launch.cli import output
from ssrnn_launch.cli.options import DebugOption, JsonOption


def generate(
    checkpoint: Annotated[str, typer.Argument(help="A run's folder, or one of its checkpoints; or a run's URL.")],
    prompt: Annotated[str | None, typer.Option(help="The text to go on from; may be empty.")] = None,
    prompt_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="Read the prompt from a file; - is stdin.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Stop after so many tokens.")] = 256,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Sample among the k likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Sample among the likeliest that hold p of the probability.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same text.")] = 0,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Continue a prompt, streaming; memory stays the same however long the text.

    Example: ssrnn generate runs/quickstart --prompt 'def main(' --max-tokens 200 --top-p 0.95
    """
    text = read_prompt(prompt, prompt_file)

    from ssrnn_dist.generate import generate_text

    pieces = generate_text(
        checkpoint, text, max_tokens=max_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    if output.as_json():
        output.emit_json({"checkpoint": checkpoint, "prompt": text, "text": "".join(pieces), "seed": seed})
        return
    out = sys.stdout.buffer
    out.write(text.encode("utf-8"))
    for piece in pieces:
        out.write(piece.encode("utf-8", "replace"))
        out.flush()
    out.write(b"\n")
    out.flush()


def read_prompt(prompt: str | None, prompt_file: str | None) -> str:
    """The prompt as text; UserError for two of them or for bytes that are no UTF-8."""
    from ssrnn_dist.problems import user_error

    if prompt is not None and prompt_file is not None:
        raise user_error("--prompt-file", "--prompt is given too", "one of the two is allowed")
    if prompt_file is None:
        where, raw = "--prompt", (prompt or "").encode("utf-8", "surrogateescape")
    elif prompt_file == "-":
        where, raw = "stdin", sys.stdin.buffer.read()
    else:
        where, raw = prompt_file, Path(prompt_file).read_bytes()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise user_error(where, f"not UTF-8 (byte {error.start})", "UTF-8 text is wanted") from None
