"""How many processes a call of `a2v predict` is worth on a CPU: each of them first imports torch and reads the model.

Neither their number nor this estimate changes a result, so the estimate may be rough.
"""

from __future__ import annotations

from collections.abc import Sequence

from a2v_data.scheduling import cores
from a2v_model import Detector

from .settings import PredictSettings
from .work import PieceTask

START_S = 2.0  # of the processor: a process that begins (measured: 1.9)
LEAST_WORK_S = 2 * START_S  # for which another process is begun
FLOP_PER_S = 1e11  # of matrix products on a core; measured with the presets: 60 to 200
FRONT_END_S = 0.002  # and all else outside of them, for a second of audio (measured with `tiny` and `small`)


def processes_for(model: Detector, tasks: Sequence[PieceTask]) -> int:
    """As many as have enough to do, at most one for each core; 1: one that begins at once, as a copy of this one."""
    each_s = cost_of_second(model, tasks[0].settings) if tasks else 0.0
    work_s, enough_s = 0.0, cores() * LEAST_WORK_S
    for task in tasks:
        if work_s >= enough_s:  # of a million tasks a few tell
            break
        work_s += task.seconds * each_s
    return max(1, min(cores(), int(work_s / LEAST_WORK_S)))


def cost_of_second(model: Detector, settings: PredictSettings) -> float:
    """Seconds of a processor, about, for a second of audio: two operations for every weight and frame of the
    encoder, and the rest."""
    encoder = sum(weight.numel() for weight in model.backbone.encoder.parameters())
    heard = settings.segment_s / (settings.segment_s - settings.overlap_s)  # what windows share is heard twice
    return heard * (2 * encoder * model.model_config.encoder_frame_rate / FLOP_PER_S + FRONT_END_S)
