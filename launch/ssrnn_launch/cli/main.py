"""The console entry point: gathers the commands, runs one, and turns what goes wrong into an exit code.

Imports typer and the command files, which import nothing heavy at their top."""

import sys

import typer

from ssrnn_launch.cli import (
    bench_data,
    bench_kernels,
    bench_launch,
    config,
    cost,
    data,
    doctor,
    errors,
    evaluate,
    generate,
    jobs,
    output,
    plan,
    quickstart,
    report,
    submit,
    train,
)

app = typer.Typer(
    name="ssrnn",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Pretrain recurrent language models with structured state feedback, on one machine or on a Ray cluster.\n\n"
    "Example: ssrnn quickstart",
)
app.command("quickstart")(quickstart.quickstart)
app.add_typer(data.app, name="data")
app.command("train")(train.train)
app.command("plan")(plan.plan)
app.command("submit")(submit.submit)
app.command("doctor")(doctor.doctor)
app.add_typer(jobs.app, name="jobs")
app.command("eval")(evaluate.evaluate)
app.command("generate")(generate.generate)
app.command("report")(report.report)
app.command("cost")(cost.cost)
assert bench_data.app is bench_kernels.app is bench_launch.app  # bench.py's; each adds its own commands
app.add_typer(bench_kernels.app, name="bench")
app.add_typer(config.app, name="config")


def main(arguments: list[str]) -> int:
    """Run one command; its exit code: 0 done, 2 the input is wrong, 1 it failed, 130 or 143 it was told to stop."""
    output.start(arguments)
    try:
        result = app(args=arguments, prog_name="ssrnn", standalone_mode=False)
        sys.stdout.flush()
    except BaseException as error:
        if isinstance(error, BrokenPipeError) or isinstance(error.__context__, BrokenPipeError):
            output.forget_stdout()  # whoever read our output has seen enough
            return 0
        return errors.tell(error)
    return result if isinstance(result, int) else 0


def run() -> None:
    """The `ssrnn` command."""
    sys.exit(main(sys.argv[1:]))
