"""`a2v experiment submit`, `attach` and `stop`: experiments as jobs of a Ray cluster."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from ..basics.places import DEFAULT_WORK, command
from ..basics.terminal import printable
from .options import Force, Override, RecipeName, Register, Scale, Tracking, TrustCode, Work
from .say import say

AGAIN = "a2v.again"  # in a job's metadata: the command that submits it, without secrets

Address = Annotated[
    str,
    typer.Option("--address", envvar="RAY_API_SERVER_ADDRESS", help="Of the cluster's dashboard: http://HOST:8265"),
]


def submit(
    recipe: RecipeName,
    address: Address,
    set_: Override = None,
    scale: Scale = None,
    work: Work = DEFAULT_WORK,
    tracking_uri: Tracking = None,
    trust_code: TrustCode = False,
    force: Force = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", help="KEY=VALUE for the job, or KEY for its value here.")
    ] = None,
    requirements: Annotated[
        Path | None,
        typer.Option(help="Packages to install for the job: a requirements file.", exists=True, dir_okay=False),
    ] = None,
    register: Register = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Follow the log, or print the job's id and end.")
    ] = True,
    job_id: Annotated[
        str | None, typer.Option(help="The job's id; default: the recipe's name and a random end.")
    ] = None,
) -> None:
    """Run a recipe on a Ray cluster, with the code that is installed here. It goes on when this command ends."""
    from ..recipe.files import read_recipe
    from ..store.reuse import Reuse
    from ..sweep.trials import trials_of

    Reuse.of(trust_code, force)  # refuses a stage that there is not
    file = read_recipe(recipe, set_, scale.value if scale else None)
    if file.resolve().sweep:
        trials_of(file)  # each of them is validated
    from ..cluster import jobs, submission
    from ..recipe.written import LOGIN
    from ..store.registry import check_name

    submission.check_tracking(tracking_uri, address)
    if register is not None:
        check_name(register)
    variables = submission.parse_env(env or [])
    options = [("--set", one) for one in set_ or []] + ([("--scale", scale.value)] if scale else [])
    options += [("--work", str(work)), *([("--register", register)] if register else [])]
    if tracking_uri:
        options.append(("--tracking-uri", tracking_uri))
    options += [("--force", stage) for stage in force or []]
    trusted = ["--trust-code"] if trust_code else []
    given = [*(part for pair in options for part in pair), *trusted]
    again = command("experiment", "submit", recipe, "--address", address, *given)
    file = submission.for_cluster(file)
    chosen = file.resolve()
    if all(Path(source).is_dir() for source in submission.sources(chosen)):
        from ..stages.stages import check_source

        check_source(chosen)
    client = jobs.connect(address)
    job = job_id or f"{chosen.name}-{secrets.token_hex(4)}"
    with tempfile.TemporaryDirectory(prefix="a2v-submit-") as folder:
        submission.write_upload(Path(folder), file, job)
        environment = submission.runtime_env(Path(folder), tracking_uri, variables, requirements)
        jobs.submit(
            client,
            submission.entrypoint(work, scale.value if scale else None, register, trust_code, force or []),
            job,
            environment,
            {"recipe": chosen.name, AGAIN: LOGIN.sub("", again)},
        )
    for notice in submission.notices(chosen, work, tracking_uri):
        say(notice, err=True)
    if not wait:
        say(job)
        return
    say(f"job {job}; Ctrl-C ends this command and not the job", err=True)
    jobs.follow(client, address, job, _write)


def attach(
    job_id: Annotated[str, typer.Argument(help="As `a2v experiment submit` printed it.")], address: Address
) -> None:
    """Follow the log of a submitted experiment, from its start; ends with its exit code."""
    from ..cluster import jobs

    jobs.follow(jobs.connect(address), address, job_id, _write)


def stop(
    job_id: Annotated[str, typer.Argument(help="As `a2v experiment submit` printed it.")], address: Address
) -> None:
    """Stop a submitted experiment. What is finished stays, and the same submit goes on with the rest."""
    from ..cluster import jobs

    status, about = jobs.stop(jobs.connect(address), job_id)
    if status != "STOPPED":
        say(f"job {job_id} had ended before: {status}")
        return
    say(f"job {job_id} stopped; stages and trials that are finished stay, its other runs read KILLED")
    again = about.get(AGAIN)
    how = ":" if again else ", submitted with the same recipe, work folder and store"
    say(f"it goes on from the last checkpoints{how}", *([f"  {again}"] if again else []))


def _write(text: str) -> None:
    typer.echo("\r".join(map(printable, text.split("\r"))), nl=False)  # a bar in the log writes over its line
