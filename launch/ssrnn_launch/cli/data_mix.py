"""`ssrnn data mix`: what a mixture would read, before it is trained on: shares, epochs, lanes, and a picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ssrnn_launch.cli import output
from ssrnn_launch.cli.options import DebugOption, JsonOption, SetOption, overrides

if TYPE_CHECKING:
    from ssrnn_dist.config import RunConfig

SOURCE_ALLOWED = "INDEX=WEIGHT is wanted, such as corpora/web=0.7 or 'corpora/web=[[0, 1], [1000000, 0.2]]'"
EPOCH_ENDS_SHOWN = 4


def mix(
    config: Annotated[
        Path | None, typer.Argument(metavar="[CONFIG]", help="A run's YAML file that has a `data.mixture`.")
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(metavar="INDEX=WEIGHT", help="In place of CONFIG: a corpus and its weight; to be repeated."),
    ] = None,
    tokens: Annotated[int | None, typer.Option(min=1, help="With --source: of the whole run.")] = None,
    lanes: Annotated[int | None, typer.Option(min=1, help="With --source: of a batch.")] = None,
    sequence_length: Annotated[
        int | None, typer.Option(min=1, help="With --source: tokens of a lane and step.")
    ] = None,
    set_values: SetOption = None,
    picture: Annotated[Path | None, typer.Option(help="Draw shares and epochs: a .svg, .png or .pdf.")] = None,
    json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what a mixture would read: each source's share, epochs and lanes. Reads indexes only, and trains nothing.

    A weight is a number, or [tokens seen, number] pairs, between which it is linear.

    Example: ssrnn data mix --source corpora/web=3 --source corpora/code=1 --tokens 9000000 --lanes 32
    --sequence-length 256 --picture mix.svg
    """
    from ssrnn_data import draw_mixture, preview_mixture
    from ssrnn_dist.config import apply_overrides, check_config, read_yaml
    from ssrnn_dist.data import mixture_of
    from ssrnn_launch.cli.pictures import check_picture, save_picture

    check_picture(picture)
    numbers = {"--tokens": tokens, "--lanes": lanes, "--sequence-length": sequence_length}
    _check_one_way(config, source or [], numbers)
    values = read_yaml(config) if config is not None else _as_config(source or [], numbers)
    run = check_config(apply_overrides(values, overrides(set_values)), where=str(config or "--source"))
    _check_is_mixed(run)
    train = run.train
    found = preview_mixture(
        mixture_of(run.data),
        lanes=train.lanes,
        sequence_length=train.sequence_length,
        tokens=train.steps * train.tokens_per_batch,
    )
    if picture is not None:
        save_picture(draw_mixture(found), picture)
    _show(found)


def _check_one_way(config: Path | None, sources: Sequence[str], numbers: Mapping[str, int | None]) -> None:
    """UserError unless there is either a config or sources with all of their numbers."""
    from ssrnn_dist.problems import user_error

    if config is None and not sources:
        raise user_error("ssrnn data mix", "neither a config nor --source", "one of them is wanted")
    given = [name for name, number in numbers.items() if number is not None]
    if config is not None and (sources or given):
        came = f"{'--source' if sources else given[0]} is given too"
        raise user_error(str(config), came, "a config alone is allowed, with --set section.key=value")
    missing = [name for name in numbers if name not in given]
    if config is None and missing:
        raise user_error(missing[0], "missing", "a number is wanted with --source")


def _as_config(sources: Sequence[str], numbers: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a run that reads these sources: at least so many tokens, in whole steps."""
    lanes, length = numbers["--lanes"], numbers["--sequence-length"]
    train = {
        "sequence_length": length,
        "tokens_per_batch": lanes * length,
        "steps": -(-numbers["--tokens"] // (lanes * length)),
    }
    return {"name": "mix", "data": {"mixture": [_source(word) for word in sources]}, "train": train}


def _source(word: str) -> dict[str, Any]:
    import yaml

    from ssrnn_dist.problems import user_error

    index, _, weight = word.rpartition("=")
    try:
        value = yaml.safe_load(weight)
    except (yaml.YAMLError, RecursionError):
        value = None
    if not index or value is None:
        raise user_error("--source", repr(word), SOURCE_ALLOWED)
    return {"index": index, "weight": value}


def _check_is_mixed(run: "RunConfig") -> None:
    from ssrnn_dist.problems import user_error

    if run.data.mixture is None:
        raise user_error("data.mixture", "missing", "a config with a mixture is wanted (launch/configs/mixture.yaml)")


def _show(found: dict[str, Any]) -> None:
    if output.as_json():
        output.emit_json(found)
        return
    output.say(f"{found['tokens']:,} tokens in {found['steps']:,} steps")
    columns = ["source", "wanted", "got", "tokens", "epochs", "an epoch ends at steps", "lanes: first, middle, last"]
    output.table(columns, [_row(each) for each in found["sources"]])
    counted = (
        f" (counted: the first {found['windows_counted']:,})" if found["windows_counted"] < found["windows"] else ""
    )
    output.say(
        f"largest distance of a source from its share: {found['largest_error_windows']:.3f} of a window{counted}; "
        f"it never comes to 1: at most {found['error_bound_windows']:.3f}"
    )
    output.say(f"lanes that change their source in a step: {found['handovers_per_step']:.2f}")


def _row(source: Mapping[str, Any]) -> list[str]:
    ends = source["epoch_ends_at_steps"]
    shown = ", ".join(f"{step:,}" for step in ends[:EPOCH_ENDS_SHOWN])
    return [
        source["name"],
        f"{source['share_wanted']:.3%}",
        f"{source['share_got']:.3%}",
        f"{source['tokens']:,}",
        f"{source['epochs']:.3f}",
        f"{shown}, …" if len(ends) > EPOCH_ENDS_SHOWN else shown or "–",
        ", ".join(f"{count:.1f}" for count in source["lanes"].values()),
    ]
