"""`a2v review`: the page; the group's other commands are what comes out of a review."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from ..basics.errors import UserError
from ..basics.places import command
from .options import AllowPlugins, Tracking
from .review_export import export
from .review_report import report
from .say import say

if TYPE_CHECKING:
    from collections import Counter

    from ..review.calls import Calls
    from ..review.desk import Similar
    from ..review.journal import State
    from ..review.order import Stretch


class OrderChoice(StrEnum):
    likelihood = "likelihood"
    uncertain = "uncertain"
    random = "random"
    stratified = "stratified"


class PageGroup(TyperGroup):
    """A group of which one command needs no name: what begins with none of the others is a call of it."""

    default_command = "page"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As the group does, with the name of the default command put before what has none."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [self.default_command, *args]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """The default command's options, then the other commands."""
        page = self.commands[self.default_command]
        page.format_options(page.context_class(page, info_name=ctx.info_name, parent=ctx.parent), formatter)
        self.format_commands(ctx, formatter)


group = typer.Typer(
    cls=PageGroup,
    no_args_is_help=True,
    subcommand_metavar="CALLS [OPTIONS] | COMMAND ...",
    help="Listen to what was found and decide: a page in the browser, on this machine alone.",
)


group.command("report")(report)
group.command("export")(export)


@group.command("page")
def page(
    calls: Annotated[
        Path, typer.Argument(help="Folder of `a2v predict`, or a table of events (with --recordings).", metavar="CALLS")
    ],
    recordings: Annotated[
        Path | None, typer.Option("--recordings", help="Where the recordings lie; for a table, or where they moved.")
    ] = None,
    order: Annotated[
        OrderChoice,
        typer.Option(
            "--order",
            help="likelihood: highest first; uncertain: nearest to the threshold; random; stratified: a random sample"
            " of each band of likelihood, from which precision is estimated.",
        ),
    ] = OrderChoice.likelihood,
    per_band: Annotated[
        int, typer.Option("--per-band", min=1, help="Events of each class and band of likelihood, with stratified.")
    ] = 10,
    windows: Annotated[
        int, typer.Option("--windows", min=0, help="Random stretches without predictions, to see what was missed.")
    ] = 0,
    window_s: Annotated[float, typer.Option("--window-s", min=1, max=30, help="Longest of these, seconds.")] = 10.0,
    classes: Annotated[
        list[str] | None, typer.Option("--class", help="Only events of this class; may be repeated.")
    ] = None,
    suggest: Annotated[
        int, typer.Option("--suggest", min=0, help="Begin with so many clips from which most is learned.")
    ] = 0,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", help="Hears the recordings for --suggest and search (key s). Default: that of the calls."
        ),
    ] = None,
    slow: Annotated[
        float | None,
        typer.Option("--slow", min=0.01, max=100, help="Play so many times slower. Default: 10 above 96 kHz, else 1."),
    ] = None,
    reviewer: Annotated[
        str | None, typer.Option("--reviewer", help="Whose decisions; default: the login name.")
    ] = None,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Default: a free one.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address and open nothing.")] = False,
    tracking_uri: Tracking = None,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Open the review page on predictions."""
    from ..review.calls import open_calls
    from ..review.clips import Clips
    from ..review.desk import Desk
    from ..review.items import queue
    from ..review.journal import open_journal
    from ..review.server import Server

    opened = open_calls(calls, recordings)
    unknown = sorted(set(classes or ()) - set(opened.classes))
    if unknown:
        raise UserError(f"--class {unknown[0]}: is not among the classes ({', '.join(opened.classes) or 'none'})")
    with open_journal(opened.folder) as journal:
        chosen = _suggested(opened, journal.state, suggest, model, tracking_uri)
        items = queue(opened, order.value, per_band, windows, window_s, classes or (), chosen)
        if not items:
            hint = "give --windows N to look at stretches without predictions"
            raise UserError(f"{calls}: holds no event to review; {hint}")
        if (some := sum(item.order == "windows" for item in items)) < windows:
            pieces = "piece" if some == 1 else "pieces"
            say(f"--windows {windows}: predictions leave {some or 'no'} {pieces} of a second or more")
        clips = Clips(opened.recordings, opened.channel, slow)
        desk = Desk(opened, journal, items, clips, reviewer if reviewer is not None else _login(), _similar(opened))
        server = Server(desk, port)
        before = len(journal.state.lines)
        waiting = sum(journal.state.of(item.id) is None for item in items)
        _begin(opened, server.address, waiting, len(items), not no_browser)
        try:
            server.run()
        except KeyboardInterrupt:
            pass
        finally:
            clips.close()
        _end(calls, recordings, window_s, journal.state, before)


def _suggested(calls: Calls, state: State, count: int, model: str | None, tracking_uri: str | None) -> list[Stretch]:
    """Clips from which most is learned; and what search on the page needs, where a model is named."""
    if count:
        from ..review.suggested import suggested

        return suggested(calls, state, count, model, tracking_uri=tracking_uri)
    if model is not None:
        from ..basics.progress import hours_bar
        from ..review.similar import listen

        with hours_bar("hearing") as shown:
            listen(calls, model, shown, tracking_uri=tracking_uri)
    return []


def _similar(calls: Calls) -> Similar | None:
    """Search by example, where a model has heard the recordings."""
    from ..embeddings.units import last_about

    if last_about(calls.folder) is None:
        return None
    from ..review.clips import around
    from ..review.order import stretch
    from ..review.similar import similar

    def found(file: str, start_s: float, stop_s: float) -> list[Stretch]:
        spans = similar(calls, file, start_s, stop_s)
        with_context = (
            (name, *around(begin_s, end_s, calls.recordings[name].duration_s)) for name, begin_s, end_s, _ in spans
        )
        return [stretch(*span) for span in with_context]

    return found


def _begin(calls: Calls, address: str, waiting: int, total: int, browser: bool) -> None:
    for notice in calls.notices:
        say(notice)
    for name, why in list(calls.left_out.items())[:5]:
        say(f"left out: {name}: {why}", err=True)
    if len(calls.left_out) > 5:
        say(f"left out: {len(calls.left_out) - 5} more recordings", err=True)
    say(f"review: {address}")
    say(f"{waiting} of {total} items wait; decisions are kept in {calls.folder / 'journal.jsonl'}")
    say("Ctrl-C ends it; the same command goes on")
    sys.stdout.flush()
    if browser and _has_screen():
        import threading
        import webbrowser

        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()


def _has_screen() -> bool:
    """Whether a browser would have a window; without one (over SSH) a browser for terminals would take this one."""
    return not sys.platform.startswith("linux") or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))


def _end(path: Path, recordings: Path | None, window_s: float, state: State, before: int) -> None:
    from collections import Counter

    from ..review.order import WINDOW_S

    lines = len(state.lines) - before
    counts = Counter(one.verdict for one in state.standing("event", "stretch"))
    drawn = len(state.standing("drawn"))
    say("", f"{lines} {'decision' if lines == 1 else 'decisions'} this time; all so far: {_listed(counts, drawn)}")
    if counts or drawn:
        extra = ("--recordings", recordings) if recordings else ()
        windows = ("--window-s", window_s) if window_s != WINDOW_S else ()
        say("next:", f"  {command('review', 'report', path, *extra, *windows)}  # precision, thresholds, counts")
        say(f"  {command('review', 'export', path, *extra, '--out', 'reviewed')}  # labels to train on")


def _listed(counts: Counter[str], drawn: int) -> str:
    names = {"right": "right", "wrong": "wrong", "other": "of another class", "unsure": "uncertain",
             "seen": "stretches seen in full"}  # fmt: skip
    parts = [f"{counts[verdict]} {name}" for verdict, name in names.items() if counts[verdict]]
    parts += [f"{drawn} drawn"] if drawn else []
    return ", ".join(parts) or "nothing"


def _login() -> str:
    from getpass import getuser

    try:
        return getuser()
    except (OSError, KeyError):  # no such user on this machine, as in a container
        return ""
