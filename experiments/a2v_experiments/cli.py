"""The `a2v` command. Heavy imports happen inside commands, so that `a2v --help` answers at once."""

from __future__ import annotations

import errno
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from .errors import FAILED, USAGE, UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find animal calls: self-supervised models on raw audio, every run tracked in MLflow.",
)
experiment = typer.Typer(no_args_is_help=True, help="Run recipes.")
data = typer.Typer(no_args_is_help=True, help="Make and look at corpora.")
app.add_typer(experiment, name="experiment")
app.add_typer(data, name="data")

Work = Annotated[Path, typer.Option("--work", envvar="A2V_WORK", help="Folder for corpora, checkpoints and the store.")]
Tracking = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="MLflow store; default: sqlite in the work folder."
    ),
]
DEFAULT_WORK = Path("a2v-runs")
INTERRUPTED = 130


def say(line: str) -> None:
    typer.echo(line)


@experiment.command("run")
def experiment_run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a bundled one.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key: pretrain.mask_probability=0.5")
    ] = None,
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
) -> None:
    """Run a recipe: prepare, folds, pretrain, finetune, evaluate, summarise. What is done already is reused."""
    from .recipe import load_recipe

    chosen = load_recipe(recipe, set_)
    from .experiment import run_experiment
    from .stages import check_source
    from .tracking import open_store
    from .workers import stop_ray

    check_source(chosen)  # before anything is written
    store = open_store(work, tracking_uri, chosen.name)
    say(f"experiment {chosen.name}, tracked in {store.uri}")
    try:
        outcome = run_experiment(chosen, work, store, say)
    finally:
        stop_ray()
    say(f"\n{outcome.table}\n")
    if chosen.data.source == "synthetic":
        say("These numbers are from a synthetic corpus, a stand-in: they say nothing about real recordings.\n")
    say(f"tracking store: {store.uri}")
    say(f"compare the folds: {ui_command(work, tracking_uri)}")


def ui_command(work: Path, tracking_uri: str | None) -> str:
    prefix = "" if Path(sys.prefix) == Path(sys.base_prefix) else f"{os.path.relpath(sys.prefix)}/bin/"
    return f"{prefix}a2v ui" + (f" --tracking-uri {tracking_uri}" if tracking_uri else f" --work {work}")


@app.command("ui")
def ui(
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
    host: Annotated[str, typer.Option(help="Address to listen on; loopback unless told otherwise.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Open the MLflow UI on this project's tracking store."""
    from .tracking import default_uri

    uri = tracking_uri or default_uri(work)
    if uri.startswith(("http://", "https://")):
        say(f"a tracking server shows its own UI: open {uri}")
        return
    if not tracking_uri and not (work / "mlflow.db").is_file():
        raise UserError(f"{work}: no tracking store here; run a recipe first, or name the folder with --work")
    command = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri, "--host", host, "--port", str(port)]
    os.execv(sys.executable, command)


@data.command("synth")
def data_synth(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    minutes: Annotated[float, typer.Option(min=0.2, help="Length of the corpus in minutes.")] = 40.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Make a synthetic corpus in MeerKAT's layout. A stand-in: results on it say nothing about real recordings."""
    from a2v_data.synth import synthesise

    from .progress import advancing, bar

    with bar("synthesising", 0, "segments") as shown:
        synthesise(out, minutes, seed, progress=advancing(shown))
    say(f"{out}: {minutes:g} minutes, seed {seed}")


def main() -> None:
    """Entry point: a user's mistake is one line on standard error, never a traceback."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        code = app(standalone_mode=False)  # typer returns the code of an Exit, and 130 for Ctrl-C
        if code == INTERRUPTED:
            _die("stopped; the same command goes on from the last checkpoint", INTERRUPTED)
        sys.exit(code)
    except UserError as error:
        _die(str(error), error.code)
    except ValueError as error:
        _die(str(error), USAGE)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            where = error.filename or "disk"
            _die(f"{where}: no space left on the disk; free some and run the same command again", FAILED)
        _die(f"{error.filename or ''}: {error.strerror or error}".lstrip(": "), FAILED)
    except Exception as error:
        if type(error).__name__ in ("MlflowException", "RestException", "SafetensorError"):  # server or disk, no bug
            _die(" ".join(str(error).split())[:400], FAILED)
        usage = getattr(error, "format_message", None)  # click's own errors: unknown option, missing argument
        if usage is None:
            raise
        if type(error).__name__ == "NoArgsIsHelpError":  # a group alone: its message is its help
            typer.echo(usage(), err=True)
            sys.exit(USAGE)
        _die(usage(), getattr(error, "exit_code", USAGE))


def _interrupt(signum: int, frame: object) -> None:
    """A polite kill ends as Ctrl-C does: runs read KILLED and the next call goes on."""
    raise KeyboardInterrupt


def _die(message: str, code: int) -> None:
    for line in message.splitlines():
        typer.echo(f"a2v: {line}", err=True)
    sys.exit(code)
