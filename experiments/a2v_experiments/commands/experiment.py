"""`a2v experiment`: what runs recipes here and what looks at what was run; jobs of a cluster join it in `cli.py`."""

from __future__ import annotations

import typer

from .experiment_overview import compare, list_, plan
from .experiment_rerun import rerun
from .experiment_run import run

group = typer.Typer(no_args_is_help=True, help="Run recipes, and look at what was run.")

group.command("run")(run)
group.command("rerun")(rerun)
group.command("plan")(plan)
group.command("list")(list_)
group.command("compare")(compare)
