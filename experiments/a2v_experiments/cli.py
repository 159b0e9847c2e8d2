"""The `a2v` command: its groups, and how mistakes and faults end.

Heavy imports happen inside commands, so that `a2v --help` answers at once.
"""

from __future__ import annotations

import signal
import sys

import typer

from .basics.errors import (
    FAILED,
    INTERRUPTED,
    TERMINATED,
    USAGE,
    UserError,
    disk_full,
    is_disk_full,
    light_install,
    message_lines,
)
from .basics.terminal import one_line
from .commands import (
    adapt,
    bench,
    data,
    evaluate,
    experiment,
    experiment_submit,
    experiment_suggest,
    explain,
    model,
    model_fetch,
    predict,
    review,
    search,
    ui,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Find animal calls: self-supervised models on raw audio, every run tracked in MLflow.",
)
experiment.group.command("suggest")(experiment_suggest.suggest)
experiment.group.command("submit")(experiment_submit.submit)
experiment.group.command("attach")(experiment_submit.attach)
experiment.group.command("stop")(experiment_submit.stop)
model.group.command("fetch")(model_fetch.fetch)
app.add_typer(experiment.group, name="experiment")
app.add_typer(data.group, name="data")
app.add_typer(bench.group, name="bench")
app.add_typer(model.group, name="model")
app.add_typer(explain.group, name="explain")
app.command("adapt")(adapt.adapt)
app.command("predict")(predict.predict)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(review.group, name="review")
app.command("search")(search.search)
app.command("ui")(ui.ui)


def main() -> None:
    """Entry point: a user's mistake is one line on standard error, never a traceback."""
    terminated: list[int] = []

    def interrupt(signum: int, frame: object) -> None:
        """A polite kill ends as Ctrl-C does: runs read KILLED and the next call goes on."""
        terminated.append(signum)
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        code = app(standalone_mode=False)  # typer returns the code of an Exit, and 130 for Ctrl-C
        if code == INTERRUPTED:
            _die("stopped", TERMINATED if terminated else INTERRUPTED)  # who can say more raises UserError itself
        sys.exit(code)
    except UserError as error:
        _die(str(error), TERMINATED if terminated and error.code == INTERRUPTED else error.code)
    except UnicodeEncodeError as error:  # of a file or class, as it was given: a file that is written holds text
        name = one_line(error.object[max(0, error.start - 20) : error.end + 20])
        _die(f"a name ({name}) holds what is no text and cannot be written; rename the file or class", USAGE)
    except ValueError as error:
        _die(str(error), USAGE)
    except ModuleNotFoundError as error:
        missing = light_install(error)
        if missing is None:
            raise
        _die(str(missing), missing.code)
    except OSError as error:
        if is_disk_full(error):
            _die(str(disk_full(error.filename2 or error.filename or "disk")), FAILED)
        named = one_line(str(error.filename or ""))
        _die(f"{named}: {error.strerror or error}".lstrip(": "), FAILED)
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


def _die(message: str, code: int) -> None:
    for line in message_lines(message):
        typer.echo(line, err=True)
    sys.exit(code)
