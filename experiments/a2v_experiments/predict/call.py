"""One call of `a2v predict`: the model from where it lies, the settings, and where the work runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from a2v_data.scheduling import Advance, Results, Run, Work, in_a_child, on_cores
from a2v_data.storage import file_digest
from a2v_model import Detector, in_bfloat16, load_model
from a2v_model.checkpoints import WEIGHTS

from ..basics.errors import UserError, naming_full_disk
from ..models import model_folder, name_of
from .api import as_detector
from .beside import find_tables
from .options import Choice
from .plan import find_recordings
from .processes import processes_for
from .run import Job, Progress, run_predictions
from .settings import not_learned_notice, not_written, settings_for
from .state import begun_options
from .summary import Summary

GPU_PROCESSES = 4  # of each GPU: while one of them reads and resamples, another one uses it


def call(recordings: Sequence[str], out: Path, choice: Choice, progress: Progress) -> Summary:
    """Find the calls in `recordings` (see `find_recordings`) and write them to `out`. Raises as `run_predictions`."""
    found = find_recordings(recordings)
    with model_folder(choice.model, choice.tracking_uri, beside=out) as folder:
        model = as_detector(load_model(folder), choice.model)
        digest = file_digest(folder / WEIGHTS)[:16]
        run, device, bfloat16 = _where(choice, model)
        precision = "bfloat16" if bfloat16 else "float32"
        left_out, told = _not_learned(model, out, choice)
        as_begun = {"all_classes": True} if told and not left_out else {}
        if choice.likelihoods and model.config.head == "boxes":
            raise UserError(
                "--likelihoods: this model gives onsets and offsets, no likelihoods of frames; leave it out"
            )
        settings, notices = settings_for(model, precision=precision, **(choice.settings | as_begun))
        choice = replace(choice, device=device)
        streams, beside = find_tables(found, model.model_config, choice.streams)
        known = (*told, *notices, *beside)
        name = name_of(choice.model, digest)
        job = Job(model, folder.absolute(), name, digest, settings, choice, left_out, known, streams)
        try:
            with naming_full_disk(out):
                summary = run_predictions(found, out, job, run, progress)
        finally:
            if choice.ray:
                from ..cluster.session import stop_ray

                stop_ray()
    return summary


def _not_learned(model: Detector, out: Path, choice: Choice) -> tuple[dict[str, str], list[str]]:
    """Classes that are not written since the model has not learned them, and what to say of it. A folder that was begun
    with all classes (asked for, or by an a2v that wrote them always) goes on with them."""
    left_out = not_written(model, **choice.settings)
    begun = begun_options(out)
    if left_out and begun and begun.get("classes") is None:
        said = ", ".join(f"{name} ({why})" for name, why in left_out.items())
        return {}, [f"not learned: {said}; {out} was begun with events of all classes and goes on so"]
    return left_out, not_learned_notice(left_out, "--all-classes")


def _where(choice: Choice, model: Detector) -> tuple[Run, str, bool]:
    """Where the work runs, on which device, and whether in bfloat16. Raises UserError."""
    if choice.ray:
        from ..cluster.run import ask_gpu, on_ray, resource

        cuda = choice.device != "cpu" and resource(choice.address, "GPU") > 0
        if choice.device == "cuda" and not cuda:
            raise UserError("--device cuda: the Ray cluster has no GPU")
        share = 1 / GPU_PROCESSES if cuda else 0.0
        bfloat16 = ask_gpu(_bfloat16, choice.precision, "cuda") if cuda else _bfloat16(choice.precision, "cpu")
        return on_ray(choice.address, share), "cuda" if cuda else "cpu", bfloat16
    cuda = choice.device != "cpu" and torch.cuda.is_available()
    if choice.device == "cuda" and not cuda:
        raise UserError("--device cuda: this machine has no GPU that torch can use")
    device = "cuda" if cuda else "cpu"

    def run(work: Work, tasks: Sequence[Any], advance: Advance) -> Results:
        count = choice.processes or (GPU_PROCESSES if cuda else processes_for(model, tasks))
        if count == 1 and not choice.processes:  # a recording may kill what reads it: that is not this process
            return in_a_child(work, tasks, advance)
        return on_cores(count)(work, tasks, advance)

    return run, device, _bfloat16(choice.precision, device)


def _bfloat16(precision: str, device: str) -> bool:
    return in_bfloat16(precision, torch.device(device))
