"""Ray's Jobs API: send a job, follow its log, end as it ends. A job does not need the process that submitted it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from ..basics.errors import FAILED, INTERRUPTED, UserError
from ..basics.places import command

POLL_S = 1.0
PATIENCE_S = 120.0  # how long a dashboard may be away while its job is followed
TALKATIVE = (  # Ray's loggers that report uploads and closed connections
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
NAMED = 5  # jobs that are named where one is not there
ENDED = ("SUCCEEDED", "FAILED", "STOPPED")


def connect(address: str) -> Any:
    """A client of the cluster whose dashboard is at http(s)://HOST:PORT. Raises UserError where there is none."""
    place = urlparse(address)
    if place.scheme not in ("http", "https") or not place.hostname:
        raise UserError(f"--address {address}: give the address of the Ray dashboard, http://HOST:8265")
    hint = "give the address of the Ray dashboard, http://HOST:8265, and check that Ray runs there"
    try:
        port = place.port or (443 if place.scheme == "https" else 80)
        socket.create_connection((place.hostname, port), timeout=10).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--address {address}: nothing answers there: {reason}; {hint}", FAILED) from None
    if _has_token():  # as Ray itself does for a driver
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ["RAY_API_SERVER_ADDRESS"] = address  # else RAY_ADDRESS would count for more than the option
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)

    try:
        return JobSubmissionClient(address)
    except AuthenticationError:
        raise UserError(
            f"--address {address}: the cluster wants another token; set RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) to that"
            " which `ray get-auth-token` prints on its head node",
            FAILED,
        ) from None
    except Exception as error:  # whatever another server answers: 404, no JSON, no HTTP at all
        raise UserError(f"--address {address}: no Jobs API there: {_one_line(error)}; {hint}", FAILED) from None


def _has_token() -> bool:
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or (Path.home() / ".ray" / "auth_token").is_file()


def submit(client: Any, command: str, job_id: str, runtime_env: dict[str, Any], metadata: dict[str, str]) -> None:
    """Send a job under this id. Raises UserError where the cluster does not take it."""
    try:
        client.submit_job(entrypoint=command, submission_id=job_id, runtime_env=runtime_env, metadata=metadata)
    except Exception as error:  # of the network, of the server, or of Ray's own checks
        if "already exists" in str(error):
            raise UserError(f"--job-id {job_id}: the cluster has a job with this id already") from None
        raise UserError(f"the cluster does not take the job: {_one_line(error)}", FAILED) from None


def follow(client: Any, address: str, job_id: str, write: Callable[[str], None]) -> None:
    """Write a job's log from its start until it ends. Returns when it succeeded; else raises UserError with its code.

    Ctrl-C ends the following and not the job.
    """
    try:
        info = _wait(client, job_id, write)
    except KeyboardInterrupt:
        raise UserError(
            f"job {job_id} goes on without this command\n"
            f"follow it again: {command('experiment', 'attach', job_id, '--address', address)}\n"
            f"stop it: {command('experiment', 'stop', job_id, '--address', address)}",
            INTERRUPTED,
        ) from None
    if info.status == "STOPPED":
        raise UserError(f"job {job_id} was stopped; submitted again it goes on from the last checkpoint", INTERRUPTED)
    if info.status == "FAILED":
        if info.driver_exit_code is None:  # it never ran, so the log does not say why
            raise UserError(f"job {job_id} failed: {_one_line(info.message)}", FAILED)
        hint = ": no `python` on the PATH of the head node's Ray; start Ray where a2v's dependencies are active"
        missing = hint if info.driver_exit_code == 127 else ""
        raise UserError(f"job {job_id} failed with exit code {info.driver_exit_code}{missing}", info.driver_exit_code)


def _wait(client: Any, job_id: str, write: Callable[[str], None]) -> Any:
    """The job's details once it has ended. A connection that breaks is made again, and the log goes on where it was."""
    seen, since = 0, time.monotonic()

    async def tail() -> None:
        nonlocal seen
        skip = seen
        async for text in client.tail_job_logs(job_id):
            new, skip = text[skip:], max(0, skip - len(text))
            seen += len(new)
            write(new)

    while True:
        try:
            info = client.get_job_info(job_id)
            asyncio.run(tail())
            info = client.get_job_info(job_id)
            since = time.monotonic()
        except Exception as error:
            if "does not exist" in str(error):
                raise UserError(_unknown(client, job_id)) from None
            if time.monotonic() - since > PATIENCE_S:
                raise UserError(
                    f"job {job_id}: its cluster has not answered for {PATIENCE_S:g} s: {_one_line(error)}", FAILED
                ) from None
        else:
            if info.status in ENDED:
                return info
        time.sleep(POLL_S)


def stop(client: Any, job_id: str) -> tuple[str, dict[str, str]]:
    """Stop a job and wait until it has ended. Returns how it ended and what it was submitted with; a job that had ended
    before is left as it is. Raises UserError where there is none of this id, or it does not end."""
    try:
        client.stop_job(job_id)
        since = time.monotonic()
        while (info := client.get_job_info(job_id)).status not in ENDED:
            if time.monotonic() - since > PATIENCE_S:
                raise UserError(f"job {job_id}: was told to stop and still reads {info.status}", FAILED)
            time.sleep(POLL_S)
    except UserError:
        raise
    except Exception as error:
        if "does not exist" in str(error):
            raise UserError(_unknown(client, job_id)) from None
        raise UserError(f"job {job_id}: cannot be stopped: {_one_line(error)}", FAILED) from None
    return str(getattr(info.status, "value", info.status)), dict(info.metadata or {})


def _unknown(client: Any, job_id: str) -> str:
    """That there is no such job, and which there are."""
    jobs = sorted(client.list_jobs(), key=lambda job: -(job.start_time or 0))
    known = [job.submission_id for job in jobs if job.submission_id][:NAMED]
    return f"job {job_id}: the cluster has no job with this id" + (f"; the newest: {', '.join(known)}" if known else "")


def _one_line(error: object) -> str:
    """The end of a message, where the reason stands."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][-300:] if lines else type(error).__name__
