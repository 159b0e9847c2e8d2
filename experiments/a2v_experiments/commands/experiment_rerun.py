"""`a2v experiment rerun`: what a run did, once more, from what the store keeps of it."""

from __future__ import annotations

from typing import Annotated

import typer

from ..basics.errors import UserError
from ..basics.places import DEFAULT_WORK
from .experiment_run import execute
from .options import AllowPlugins, Tracking, Work
from .say import say


def rerun(
    run_id: Annotated[
        str, typer.Argument(help="Of an experiment, a trial or a stage of one; its beginning is enough.")
    ],
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
    to: Annotated[str | None, typer.Option("--to", help="Store for the new run; default: that of RUN_ID.")] = None,
    allow_plugins: AllowPlugins = False,
) -> None:
    """Repeat a run from the recipe that its store keeps, and compare the scores.

    In the same store, stages that are there are reused. Recordings are read from where the recipe has them.
    """
    from ..overview.rerun import commit_note, kept_recipe, scores_again, scores_of
    from ..store.database import absolute
    from ..store.reading import existing_client

    tracking_uri, to = absolute(tracking_uri), absolute(to)

    client = existing_client(work, tracking_uri)
    if client is None:
        raise UserError(f"{tracking_uri or work}: no tracking store here; name that of the run with --tracking-uri")
    kept = kept_recipe(client, run_id)
    before = scores_of(client, kept.run)
    if note := commit_note(kept.run):
        say(note)
    work = work.absolute()
    there = kept.folder if kept.folder is not None and kept.folder.is_dir() else None
    again = execute(kept.file, work, to or tracking_uri, folder=there)
    before_id = kept.run.info.run_id
    if again == before_id:
        say(f"run {before_id} is whole, nothing was to be done: --to another store repeats it from its first stage")
        return
    store = existing_client(work, to or tracking_uri)
    assert store is not None
    say(f"beside run {before_id}: {scores_again(before, scores_of(store, store.get_run(again)))}")
