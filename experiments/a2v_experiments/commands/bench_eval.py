"""`a2v bench eval`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from .say import say, say_text


class Method(StrEnum):
    avg = "avg"
    max = "max"
    canny = "canny"


def eval_(
    segments: Annotated[int, typer.Option(min=1, help="MeerKAT has 66398 labelled ones.")] = 66_398,
    classes: Annotated[int, typer.Option(min=1)] = 12,
    frames: Annotated[int, typer.Option(min=200, help="Frames of a segment.")] = 2000,
    block: Annotated[int, typer.Option(min=1, help="Segments that are in memory at once.")] = 256,
    method: Annotated[Method, typer.Option(help="How likelihoods become events.")] = Method.avg,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON only.")] = False,
) -> None:
    """Score simulated likelihoods of sparse events in both protocols, streamed in blocks.

    The events are as many as MeerKAT's: 5.6 labels in a segment. Making the likelihoods is timed apart.
    """
    import json
    import resource
    import time

    import numpy as np
    from a2v_eval import EventConfig
    from a2v_eval.evaluation import Collector, EvaluationConfig
    from a2v_eval.labels import LABEL

    from ..basics.progress import bar

    rng = np.random.default_rng(seed)
    rate, shape = 200.0, np.hanning(40).astype(np.float32)
    quiet = rng.uniform(0, 0.02, (block, frames, classes)).astype(np.float32)
    names = [f"class{c}" for c in range(classes)]
    collector = Collector(names, rate, EvaluationConfig(events=EventConfig(method=method.value)))
    making = scoring = 0.0
    with bar("scoring", segments, "segments") as shown:
        for first in range(0, segments, block):
            started = time.process_time()
            n = min(block, segments - first)
            likelihood_BTC = quiet[:n].copy()
            where = rng.integers(0, n, round(6.5 * n))
            of, at = rng.integers(0, classes, len(where)), rng.integers(0, frames - 60, len(where))
            heights = rng.beta(4, 2, len(where)).astype(np.float32)
            for b, c, t, height in zip(where, of, at, heights, strict=True):
                likelihood_BTC[b, t : t + 40, c] = np.maximum(likelihood_BTC[b, t : t + 40, c], height * shape)
            labelled = rng.random(len(where)) < 5.6 / 6.5
            labels = np.zeros(int(labelled.sum()), LABEL)
            labels["class"], labels["onset_s"] = of[labelled], (at[labelled] + rng.integers(0, 20, len(labels))) / rate
            labels["offset_s"] = labels["onset_s"] + rng.uniform(0.08, 0.2, len(labels))
            making += time.process_time() - started
            started = time.process_time()
            collector.add_segments(likelihood_BTC, labels, where[labelled])
            scoring += time.process_time() - started
            shown.update(n)
    started = time.process_time()
    evaluation = collector.evaluation()
    scores = {protocol: evaluation.scores(protocol).micro for protocol in ("paper", "strict")}
    at_the_end = time.process_time() - started
    started = time.process_time()
    mean_ap = evaluation.mean_ap["micro"]
    result = {
        "segments": segments, "classes": classes, "frames": frames, "method": method,
        "labels": scores["strict"].labels, "predictions": scores["strict"].predictions,
        "likelihoods_made_cpu_s": making, "events_cpu_s": scoring, "both_protocols_cpu_s": at_the_end,
        "mean_ap_over_iou_cpu_s": time.process_time() - started,
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "AP_paper": scores["paper"].ap, "AP_strict": scores["strict"].ap, "mAP_strict": mean_ap,
    }  # fmt: skip
    if as_json:
        say_text(json.dumps(result, indent=1))
        return
    for name, value in result.items():
        say(f"{name:24} {value:.4g}" if isinstance(value, float) else f"{name:24} {value}")
