"""The probe of a pretraining: what it scores, with which recordings, and that training does not feel it."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from a2v_data.corpus import SEGMENT_DTYPE, Corpus
from a2v_data.folds import Fold, Folds
from a2v_data.pack import PackConfig, pack
from a2v_experiments.basics.errors import UserError
from a2v_experiments.stages.specs import pretrain_spec
from a2v_experiments.training import checkpoints, probe
from a2v_experiments.training.group import Group
from a2v_experiments.training.probe import PENALTY, Probe, fit_logistic, probe_scores, probe_windows
from a2v_experiments.training.probe_recordings import ProbeSpec, choose_halves, covering, probe_of
from a2v_experiments.training.probe_report import PROBE, probe_summary
from a2v_experiments.training.spec import TrainingSpec
from experiments_runs import World
from experiments_training import gloo_worker, run_loop
from experiments_world import CLASSES, RATE, RECORDINGS, STRIDE, TONES, make_recipe, training_spec

NAMES = [f"rec{n:02d}.wav" for n in range(RECORDINGS)]
EAR = "model.front_end={kind: ear, sample_rate: 4000, filters: 16, stem: [4, 6]}"  # its layers keep averages


def probed(folder: Path, corpus: Corpus, *overrides: str) -> TrainingSpec:
    """The small pretraining, probed every third update: 0, 3, 6."""
    recipe = make_recipe(folder, ["pretrain.probe={every: 3, recordings: 4}", *overrides])
    spec, _ = probe_of(recipe, corpus, None, "recording")
    return training_spec(recipe, "pretrain", corpus.folder).model_copy(update={"probe": spec})


def columns(*values: Sequence[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32).T


def test_average_precision_of_frames_is_the_mean_of_both_directions():
    """One feature. What is fitted on either half ranks by it: its positives are higher in the mean."""
    first = columns([0, 10, 20, 30]), columns([0, 0, 1, 1], [0, 1, 0, 0], [1, 0, 0, 1])
    second = columns([4, 3, 2, 1]), columns([1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1])
    # class 0, on the second half: positives at ranks 1 and 3, (1 + 2/3) / 2; on the first: at ranks 1 and 2, 1.
    # class 1 is not in the second half. Class 2: fitted on the first it is as likely at all values, so all are one
    # rank, 1/4; fitted on the second it is likelier the lower, so on the first the ranks are 1 and 4, (1 + 2/4) / 2.
    ap_C = probe_scores(first, second)
    assert ap_C[0] == pytest.approx((5 / 6 + 1) / 2) and math.isnan(ap_C[1])
    assert ap_C[2] == pytest.approx((1 / 4 + 3 / 4) / 2)
    assert np.isnan(probe_scores(first, (second[0], second[1] * 0))).all()


def test_the_classifier_is_where_the_gradient_of_a_penalised_logistic_regression_vanishes():
    rng = np.random.default_rng(3)
    x_ND = rng.normal(size=(300, 5))
    target_NC = (x_ND[:, :2] + rng.normal(size=(300, 2)) > 1).astype(float)
    fitted = fit_logistic(torch.from_numpy(x_ND).float(), torch.from_numpy(target_NC).float())
    weight_CD, bias_C = (value.double().numpy() for value in fitted)
    off_NC = 1 / (1 + np.exp(-(x_ND @ weight_CD.T + bias_C))) - target_NC
    assert np.abs(off_NC.mean(0)).max() < 1e-4
    assert np.abs(off_NC.T @ x_ND / 300 + PENALTY * weight_CD).max() < 1e-4
    assert (weight_CD.argmax(1) == [0, 1]).all()


class Heard:
    """A model of two layers, of whose features the mean is `hear(frames (T, N of a frame))`."""

    def __init__(self, front_end: Any, hear: Any) -> None:
        self.model_config, self.hear = SimpleNamespace(front_end=front_end, streams={}), hear

    def parameters(self) -> Any:
        return iter([torch.zeros(1)])

    def for_rate(self, rate: int) -> Any:
        return self

    def embed(self, waveform_N: np.ndarray, rate: int, layers: range, streams: dict) -> torch.Tensor:
        assert rate == RATE and list(layers) == [-2, -1]
        frames_TN = waveform_N[: len(waveform_N) // STRIDE * STRIDE].reshape(-1, STRIDE)
        x_TD = torch.from_numpy(self.hear(frames_TN)).float()
        return torch.stack([x_TD + 1, x_TD - 1])


def powers(frames_TN: np.ndarray) -> np.ndarray:
    """The level of each class's tone in a frame."""
    turns = np.exp(-2j * np.pi * np.array([TONES[name] for name in CLASSES])[:, None] * np.arange(STRIDE) / RATE)
    return np.log(np.abs(frames_TN @ turns.T) + 1)


def test_it_is_high_where_features_hold_the_class_and_low_where_they_hold_the_noise(tmp_path, corpus):
    one = Probe(probed(tmp_path, corpus).probe, "float32")
    front_end = make_recipe(tmp_path).model.front_end
    knows = one.look(6, True, Heard(front_end, powers), Group())
    assert set(knows) == {PROBE, "probe/AP/cc", "probe/AP/sn"} and min(knows.values()) > 0.95
    assert knows[PROBE] == pytest.approx((knows["probe/AP/cc"] + knows["probe/AP/sn"]) / 2)
    rng = np.random.default_rng(0)
    knows_not = one.look(6, True, Heard(front_end, lambda x: rng.normal(size=(len(x), 4))), Group())
    assert knows_not[PROBE] < 0.3  # 600 to 1040 samples, twice in 12400: about .13 of the frames
    broken = one.look(6, True, Heard(front_end, lambda x: np.full((len(x), 2), np.nan)), Group())
    assert broken[PROBE] < 0.3 and [update for update, _ in one.history] == [6, 6, 6]


@pytest.mark.parametrize("front_end", [[], [EAR]])
def test_training_is_the_same_to_the_bit_with_and_without(tmp_path, corpus, front_end, monkeypatch):
    one = probed(tmp_path, corpus, *front_end)
    looked, real = [], Probe._probe

    def watched(self: Probe, updates: int, model: Any, group: Group) -> dict[str, float]:
        def state() -> list[Any]:
            modes = [module.training for module in model.modules()]
            return [torch.get_rng_state().tolist(), modes, {k: v.clone() for k, v in model.state_dict().items()}]

        before = state()
        metrics = real(self, updates, model, group)
        after = state()
        assert before[:2] == after[:2] and all(torch.equal(before[2][key], after[2][key]) for key in before[2])
        looked.append(updates)
        return metrics

    monkeypatch.setattr(Probe, "_probe", watched)
    training = run_loop(one, tmp_path / "probed")
    plain = run_loop(one.model_copy(update={"probe": None}), tmp_path / "plain")
    assert looked == [0, 3, 6]
    for file in (training.weights, training.moments):
        kept = (plain.weights if file == training.weights else plain.moments)(6)
        found = file(6)
        assert found.keys() == kept.keys() and all(torch.equal(found[key], kept[key]) for key in kept)
    assert [step for step, values in training.metrics.items() if PROBE in values] == [0, 3, 6]
    without = {
        step: {name: value for name, value in values.items() if not name.startswith("probe/")}
        for step, values in training.metrics.items()
    }
    assert without == {0: {"update": 0.0}, **plain.metrics}


def test_stopped_and_resumed_it_has_every_probe_once(tmp_path, corpus):
    one = probed(tmp_path, corpus)
    whole = run_loop(one, tmp_path / "whole")
    last = checkpoints.read_state(whole.folder / checkpoints.name(6))
    assert [update for update, _ in last["probe"]["history"]] == [0, 3, 6]
    for stop in (3, 4):  # the checkpoints are of updates 2 and 4
        folder = tmp_path / f"stopped-{stop}"
        before = run_loop(one, folder, stop_after=stop)
        after = run_loop(one, folder, checkpoints.newest(folder))
        assert {**before.metrics, **after.metrics} == whole.metrics and 0 not in after.metrics
        assert checkpoints.read_state(folder / checkpoints.name(6)) == last
    # switched on, or with other recordings, half way: the random start is known all the same, though not logged late
    folder = tmp_path / "late"
    run_loop(one.model_copy(update={"probe": None}), folder, stop_after=3)
    late = run_loop(one, folder, checkpoints.newest(folder))
    assert 0 not in late.metrics and checkpoints.read_state(folder / checkpoints.name(6)) == last


def test_one_of_two_workers_probes(tmp_path, corpus):
    one = probed(tmp_path, corpus, "pretrain.updates=3")
    folder = tmp_path / "together"
    folder.mkdir()
    torch.multiprocessing.spawn(gloo_worker, args=(2, [one.model_dump_json()], str(folder)), nprocs=2)
    metrics = json.loads((folder / "0" / "metrics.json").read_text(encoding="utf-8"))
    alone = run_loop(one, tmp_path / "alone").metrics
    assert metrics["0"] == alone[0] and metrics["3"][PROBE] == pytest.approx(alone[3][PROBE], rel=0.02)


def a_corpus(folder: Path, calls: dict[str, list[str]], seconds: float = 2.0) -> Corpus:
    """Recordings of noise; name -> labels of its calls, which follow each other every .2 s from .1 s on."""
    import soundfile

    (folder / "audio").mkdir(parents=True)
    rows = ["file,onset_s,offset_s,label"]
    for number, (name, labels) in enumerate(calls.items()):
        noise = np.random.default_rng(number).normal(0, 0.1, round(seconds * RATE))
        soundfile.write(folder / "audio" / name, noise, RATE)
        rows += [f"{name},{0.1 + 0.2 * place},{0.2 + 0.2 * place},{label}" for place, label in enumerate(labels)]
    (folder / "annotations.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return pack(folder, folder / "packed", PackConfig(sample_rate=RATE, focal_class=False))


def test_recordings_are_chosen_so_that_both_halves_have_the_classes(tmp_path):
    """Twenty with a frequent class; the two rare ones are in three and in two of them."""
    calls = {f"r{n:02d}_{n % 2}.wav": ["often"] for n in range(20)}
    rare = {"r03_1": "rare", "r08_0": "rare", "r13_1": "rare", "r09_1": "rarest", "r16_0": "rarest"}
    for name, label in rare.items():
        calls[f"{name}.wav"].append(label)
    corpus = a_corpus(tmp_path / "c", {**calls, "silent.wav": []})
    names = [one.name for one in corpus.recordings if one.labelled]
    for seed in range(6):
        halves = choose_halves(corpus, names, 6, seed, "recording")
        assert halves is not None and halves == choose_halves(corpus, names, 6, seed, "recording")
        assert {len(half) for half in halves} == {3} and not set(halves[0]) & set(halves[1])
        for half in halves:
            assert {label for name in half for label in calls[name]} == {"often", "rare", "rarest"}
    assert len({str(choose_halves(corpus, names, 6, seed, "recording")) for seed in range(6)}) > 1
    by_last = choose_halves(corpus, names, 6, 0, lambda name: name[4])
    assert by_last is not None and [len({name[4] for name in half}) for half in by_last] == [1, 1]


def test_of_a_long_recording_a_minute_is_heard_half_of_it_with_calls(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "LONGEST_S", 4.0)
    corpus = a_corpus(tmp_path / "c", {"long.wav": ["a"] * 9 + ["b"], "short.wav": ["a"]}, seconds=20)
    rows = corpus.indices(["long.wav", "short.wav"])
    windows = probe_windows(corpus, rows, 1.0, 0)
    assert windows.dtype == SEGMENT_DTYPE and (windows["recording"] == rows[0]).sum() == 4 and len(windows) == 8
    starts = windows["start"][:4] / RATE
    assert {0.0, 1.0} <= set(starts)  # a is in both, b in the second
    assert np.array_equal(windows, probe_windows(corpus, rows, 1.0, 0))
    assert len(probe_windows(corpus, rows, 10.0, 0)) == 2


def test_covering_takes_the_rare_first_and_groups_in_turn():
    there_RC = np.array([[1, 0], [1, 0], [1, 0], [1, 1], [0, 0]], bool)
    order = covering(there_RC, np.array([0, 0, 1, 0, 2]), 9, np.random.default_rng(0))
    assert order[:2] == [3, 2] and sorted(order[2:]) == [0, 1]


def test_it_hears_what_is_not_evaluated_where_that_can_be(tmp_path, corpus):
    recipe = make_recipe(tmp_path, ["pretrain.probe={every: 3}", "folds.run=[0, 1]", "finetune.average_layers=1"])
    thirds = [NAMES[n::3] for n in range(3)]
    folds = Folds(tuple(Fold(n, [], third) for n, third in enumerate(thirds)))
    spec, note = probe_of(recipe, corpus, folds, "recording")
    assert isinstance(spec, ProbeSpec) and note is None and {*spec.halves[0], *spec.halves[1]} == set(thirds[2])
    assert (spec.every, spec.layers, spec.segment_s) == (3, 1, 1.0)
    every = recipe.model_copy(update={"folds": recipe.folds.model_copy(update={"run": None})})
    spec, note = probe_of(every, corpus, folds, "recording")
    assert spec is not None and len(spec.halves[0] + spec.halves[1]) == 8
    assert note == (
        "the probe hears 8 recordings that are evaluated, as too few others are labelled; the model learns nothing"
        " from it"
    )
    assert probe_of(make_recipe(tmp_path), corpus, folds, "recording") == (None, None)


@pytest.mark.parametrize(
    "calls, found",
    [
        ({"a.wav": [], "b.wav": []}, "0 of its recordings are labelled;"),
        ({"a.wav": ["x"], "b.wav": []}, "1 of its recordings is labelled;"),
        ({"a.wav": ["x"], "b.wav": ["y"]}, "2 of its recordings are labelled, of which no two"),
    ],
)
def test_too_few_labels_are_one_line_that_names_the_key(tmp_path, calls, found):
    recipe = make_recipe(tmp_path, ["pretrain.probe={every: 3}"])
    with pytest.raises(UserError, match=r"^pretrain\.probe: ") as error:
        probe_of(recipe, a_corpus(tmp_path / "c", calls), None, "recording")
    assert found in str(error.value) and "leave pretrain.probe out" in str(error.value)


def test_it_is_not_part_of_what_makes_a_pretraining(tmp_path):
    without, with_it = make_recipe(tmp_path), make_recipe(tmp_path, ["pretrain.probe={every: 3}"])
    assert pretrain_spec(without, "audio").fingerprint == pretrain_spec(with_it, "audio").fingerprint
    assert "probe" not in without.pretrain.model_dump()


def test_the_last_line():
    def told(*history: Any) -> str | None:
        return probe_summary({"updates": 9, "probe": {"halves": [], "history": history}})

    no_better = "these features are no better than a random start; finetuning from them will not help"
    assert told([0, 0.44], [5, 0.47], [9, 0.5]) == "probe 0.44 -> 0.50 (best at update 9)"
    assert told([0, 0.44], [5, 0.52], [9, 0.5]) == "probe 0.44 -> 0.50 (best at update 5: 0.52)"
    assert told([0, 0.44], [5, 0.4], [9, 0.29]) == f"the probe did not rise (0.44 -> 0.29): {no_better}"
    assert told([0, 0.99], [9, 0.995]).startswith("probe 0.99 -> 0.99: these calls are so easy")  # none can rise by .02
    assert told([0, 0.44], [9, 0.455]) == f"the probe did not rise (0.44 -> 0.46): {no_better}"
    assert told([0, 0.44], [5, 0.6], [9, 0.4]) == (
        f"the probe did not rise (0.44 -> 0.40, 0.60 at update 5): {no_better}"
    )
    assert told([0, 0.44]) is None and probe_summary({"updates": 9}) is None


def test_an_experiment_logs_it_and_says_whether_it_rose(world: World):
    said = world.call("pretrain.probe={every: 3}", "pretrain.seed=5", "variant=probed", "folds.run=[0]")
    assert said.code == 0, said.err
    (run,) = [run for run in world.runs("pretrain") if run.data.tags["variant"] == "probed"]
    history = world.store.client.get_metric_history(run.info.run_id, PROBE)
    assert [metric.step for metric in history] == [0, 3, 6] and {
        "probe/AP/cc",
        "probe/AP/sn",
    } <= run.data.metrics.keys()
    assert [step for step, _ in world.losses(run)] == [1, 2, 3, 4, 5, 6]
    first, last = (f"{history[place].value:.2f}" for place in (0, -1))
    (line,) = [line for line in said.out.splitlines() if line.startswith(("  probe ", "  the probe did"))]
    assert f"{first} -> {last}" in line and "recordings that are evaluated" not in said.out
    again = world.call("pretrain.seed=5", "variant=unprobed", "folds.run=[0]")
    assert again.code == 0 and f"pretrain: reused, run {run.info.run_id}" in again.out
    later = world.call("pretrain.probe={every: 3}", "variant=later", "folds.run=[0]")
    assert later.code == 0 and "  it has no probe, as it ran without pretrain.probe" in later.out
