"""How commands print: everything that goes to a terminal goes through here."""

from __future__ import annotations

import typer

from ..basics.terminal import one_line, printable


def say(*lines: str, err: bool = False) -> None:
    """Print lines, on standard error with `err`; each is one line, whatever names it holds."""
    for line in lines:
        typer.echo(one_line(line), err=err)


def say_text(text: str) -> None:
    """Print a text of several lines, as tables and JSON are; names in it are for `one_line`."""
    typer.echo(printable(text))
