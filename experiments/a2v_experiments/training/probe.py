"""Whether the representation gets better while pretraining goes on: a linear classifier on frozen features.

A falling loss does not tell: a student that predicts its teacher well may know less of the sounds than a random start.
So some labelled recordings are heard now and then, in two halves: a logistic regression is fitted on what a head would
see of the one half, its ranking of the other half's frames is scored by average precision, and the other way round.

Contract. Only rank 0 computes; the others wait. No random number is drawn and the model's mode is put back, so a
training with a probe makes the same updates as one without. `state` goes into the checkpoint. A probe is a pure
function of the weights and its specification.

W windows, N frames of all windows, D features, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from a2v_data.corpus import Corpus
from a2v_eval.scores import average_precision, mean_defined, none_if_nan
from a2v_model import autocast
from a2v_model.inference import Inference
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from ..inference import heard_streams
from ..store.names import ClassNames
from .group import Group
from .probe_recordings import ProbeSpec, covering
from .probe_report import PROBE, PROBE_CLASS

LONGEST_S = 60.0  # of one recording that are heard, so that hours cost no more than minutes
PENALTY = 0.001  # on the squared weights, whose frames are far from independent
STEPS = 100  # of the fit, at most


class Probe:
    """Probes a pretraining. history: (update, AP macro) of all so far, the random start's first; None: undefined."""

    def __init__(self, spec: ProbeSpec, precision: str) -> None:
        self.spec, self.precision = spec, precision
        self.corpus = Corpus.open(spec.corpus)
        self.windows = [
            probe_windows(self.corpus, self.corpus.indices(names), spec.segment_s, spec.seed) for names in spec.halves
        ]
        self.history: list[tuple[int, float | None]] = []

    def begin(self, state: Mapping[str, Any], model: nn.Module, group: Group) -> dict[str, float]:
        """Before any checkpoint is read into the model: probe the random start, where `state`, of the checkpoint that
        training goes on from, has no probe of the same recordings; returns the metrics."""
        known = state.get("probe", {})
        if known.get("halves") == list(self.spec.halves):
            self.history = [(update, ap) for update, ap in known["history"]]
            return {}
        return self._probe(0, model, group)

    def look(self, updates: int, last: bool, model: nn.Module, group: Group) -> dict[str, float]:
        """Where it is time for it: probe the model as it is; returns the metrics, none on the other ranks."""
        return self._probe(updates, model, group) if last or updates % self.spec.every == 0 else {}

    def state(self) -> dict[str, Any]:
        """For loop.json."""
        return {"probe": {"halves": list(self.spec.halves), "history": self.history}}

    def _probe(self, updates: int, model: Any, group: Group) -> dict[str, float]:
        metrics: dict[str, float] = {}
        if group.rank == 0:
            first, second = (self._heard(model, windows) for windows in self.windows)
            ap_C = probe_scores(first, second)
            named = zip(self.corpus.classes, ap_C.tolist(), strict=True)
            called = ClassNames.of(self.corpus.classes)
            metrics = {PROBE: mean_defined(ap_C)}
            metrics |= {called.to_store(f"{PROBE_CLASS}{name}"): ap for name, ap in named}
            self.history.append((updates, none_if_nan(metrics[PROBE])))
        group.sum(torch.zeros(1, device=group.device))  # where the other ranks wait
        return {name: ap for name, ap in metrics.items() if not math.isnan(ap)}

    def _heard(self, model: Inference, windows: NDArray[np.void]) -> tuple[Tensor, Tensor]:
        """What a head would see (N, D), float32, of all frames of these windows whose targets are known,
        and these (N, C)."""
        corpus = self.corpus
        x, targets = [], []
        for window in windows:
            rate = corpus.rate(window["recording"])
            front_end = model.for_rate(rate).model_config.front_end
            waveform_1N, (length,) = corpus.waveforms(window[None], corpus.segment_samples(self.spec.segment_s, rate))
            # compiled blocks would be compiled again, for these shapes and without gradient
            with torch.compiler.set_stance("force_eager"), autocast(self.precision, model_device(model)):
                layers = range(-self.spec.layers, 0)
                found = heard_streams(model.model_config, corpus, window[None], self.spec.segment_s)
                streams = {name: values[0] for name, values in found.items()}
                x_TD = model.embed(waveform_1N[0, :length], rate, layers, streams).mean(0)
            frames = min(len(x_TD), -(-int(length) // front_end.stride))
            target_TC = torch.from_numpy(corpus.targets(window[None], front_end.frame_rate, frames)[0])
            known_T = ~target_TC.isnan().any(-1)
            x.append(x_TD[:frames][known_T.to(x_TD.device)].nan_to_num())  # the training itself tells broken weights
            targets.append(target_TC[known_T])
        return torch.cat(x), torch.cat(targets).to(x[0].device)


def model_device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def probe_windows(corpus: Corpus, recordings: Sequence[int], segment_s: float, seed: int) -> NDArray[np.void]:
    """Windows of segment_s seconds, SEGMENT_DTYPE: all that cover a recording or, where that is longer, as many as
    `LONGEST_S` holds, half of them with calls (if so many have any), the others at random."""
    count = max(1, int(LONGEST_S / segment_s))
    parts = []
    for recording in recordings:
        windows = corpus.segments(segment_s, recordings=[recording])
        if len(windows) > count:
            labels = corpus.labels(recording)
            middle_s = (labels["onset_s"] + labels["offset_s"]) / 2  # whose frame a call sets in any case
            begin_s = windows["start"] / corpus.rate(recording)
            there_WC = np.zeros((len(windows), len(corpus.classes)), bool)
            for number in np.unique(labels["class"]).tolist():
                of_class = np.sort(middle_s[labels["class"] == number])
                first, last = np.searchsorted(of_class, [begin_s, begin_s + segment_s])
                there_WC[:, number] = last > first
            rng = np.random.default_rng([seed, 5, recording])
            with_calls = covering(there_WC, np.arange(len(windows)), -(-count // 2), rng)
            rest = rng.permutation(np.setdiff1d(np.arange(len(windows)), with_calls))
            windows = windows[np.sort([*with_calls, *rest[: count - len(with_calls)]])]
        parts.append(windows)
    return np.concatenate(parts)


def probe_scores(first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> NDArray[np.float64]:
    """AP of frames (C,), the mean of both directions; UNDEFINED for a class that is not labelled in both halves.

    first, second: features (N, D) and targets (N, C) of a half.
    """
    ap_C = np.full(first[1].shape[1], math.nan)
    common = (first[1].any(0) & second[1].any(0)).nonzero()[:, 0]
    if len(common):
        ap_C[common.cpu().numpy()] = np.mean(
            [
                _directed(*fitted, *scored)
                for fitted, scored in (
                    ((x, target_NC[:, common]), (y, other_NC[:, common]))
                    for (x, target_NC), (y, other_NC) in ((first, second), (second, first))
                )
            ],
            axis=0,
        )
    return ap_C


def _directed(x_ND: Tensor, target_NC: Tensor, other_ND: Tensor, other_NC: Tensor) -> list[float]:
    """AP of each class on the other half, of a classifier that is fitted on this one."""
    mean_D, spread_D = x_ND.mean(0), x_ND.std(0, correction=0)
    spread_D = spread_D.clamp(min=1e-3 * float(spread_D.max()) or 1.0)  # as `adapt.head.moments`
    weight_CD, bias_C = fit_logistic((x_ND - mean_D) / spread_D, target_NC)
    logits_NC = functional.linear((other_ND - mean_D) / spread_D, weight_CD, bias_C)
    columns = zip(other_NC.T.cpu().numpy(), logits_NC.T.cpu().numpy(), strict=True)
    return [average_precision(target_N, logit_N) for target_N, logit_N in columns]


def fit_logistic(x_ND: Tensor, target_NC: Tensor) -> tuple[Tensor, Tensor]:
    """Weights (C, D) and biases (C,) of a logistic regression for each class by itself, with a `PENALTY`: a convex
    problem, from 0 by LBFGS."""
    share_C = target_NC.mean(0).clamp(1e-6, 1 - 1e-6)
    weight_CD = torch.zeros(target_NC.shape[1], x_ND.shape[1], device=x_ND.device, requires_grad=True)
    bias_C = share_C.logit().requires_grad_()
    optimizer = torch.optim.LBFGS([weight_CD, bias_C], max_iter=STEPS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        logits_NC = functional.linear(x_ND, weight_CD, bias_C)
        losses_C = functional.binary_cross_entropy_with_logits(logits_NC, target_NC, reduction="none").mean(0)
        loss = losses_C.sum() + PENALTY / 2 * weight_CD.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight_CD.detach(), bias_C.detach()
