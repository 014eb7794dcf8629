"""`ssrnn config show|validate|schema`: what a config says once every default is filled in."""

import json

import typer

from ssrnn_launch.cli import output
from ssrnn_launch.cli.options import ConfigArgument, DebugOption, JsonOption, SetOption, overrides

app = typer.Typer(
    no_args_is_help=True, help="Look at configs.\n\nExample: ssrnn config validate launch/configs/laptop.yaml"
)


@app.command()
def show(
    config: ConfigArgument, set_values: SetOption = None, json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Print the config with every default filled in.

    Example: ssrnn config show launch/configs/laptop.yaml --set train.steps=100
    """
    from ssrnn_dist.config import load_config, to_yaml

    loaded = load_config(config, overrides(set_values))
    if output.as_json():
        output.emit_json(loaded.model_dump(mode="json"))
    else:
        output.say(to_yaml(loaded).rstrip())


@app.command()
def validate(
    config: ConfigArgument, set_values: SetOption = None, json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Say `ok`, or every problem at once (exit code 2).

    Example: ssrnn config validate my.yaml
    """
    from ssrnn_dist.config import load_config

    loaded = load_config(config, overrides(set_values))
    if output.as_json():
        output.emit_json({"ok": True, "config": str(config), "name": loaded.name})
    else:
        output.say(f"ok: {config}")


@app.command()
def schema(as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Print the JSON schema of a config, for editors that complete and check YAML.

    Example: ssrnn config schema > ssrnn.schema.json
    """
    from ssrnn_dist.config import RunConfig

    made = RunConfig.model_json_schema()
    if output.as_json():
        output.emit_json(made)
    else:
        output.say(json.dumps(made, indent=2))
