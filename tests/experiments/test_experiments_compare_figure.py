"""`a2v experiment compare --figure`: the curves of two runs over each other, from what their folds keep."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from a2v_eval import LABEL, evaluate
from a2v_eval.curves import mean_curve
from a2v_eval.thresholds import ThresholdSweep
from a2v_experiments.overview import compare_figure
from a2v_experiments.overview.compare import sides
from a2v_experiments.stages.figures import DATA, FigureData
from experiments_store import MadeUp, ap

CLASSES = ["cc", "sn", "beep"]
RATE = 100


def fold_data(seed: int, quality: float) -> FigureData:
    """Of a detector that finds each of 30 calls with this probability, and as often something else."""
    rng = np.random.default_rng(seed)
    likelihood_TC = 0.1 * rng.random((40 * RATE, len(CLASSES))).astype(np.float32)
    rows = []
    for call in range(30):
        class_, start = call % 2, 30 + 130 * call  # none of the last class
        rows.append((class_, start / RATE, (start + 40) / RATE))
        found = rng.random() < quality
        likelihood_TC[start : start + 40, class_ if found else 1 - class_] = rng.uniform(0.3, 1)
    labels = np.array(rows, LABEL)
    scores = evaluate([(likelihood_TC, labels)], CLASSES, RATE)
    sweep = ThresholdSweep(CLASSES, RATE, thresholds=[0.15])
    sweep.add(likelihood_TC, labels)
    return FigureData.of({"model": scores}, sweep.result())


@pytest.fixture
def made(new_work):
    return MadeUp(new_work())


def experiment(made: MadeUp, variant: str, quality: float, folds: int = 2, shares: tuple[float, ...] = (1.0,)) -> str:
    run_id = made.experiment({share: {fold: ap(0.5) for fold in range(folds)} for share in shares}, variant=variant)
    client = made.store("birds").client
    done = json.loads(client.get_run(run_id).data.tags["a2v.finetune_runs"])
    for by_fold in done.values():
        for fold, fold_run in by_fold.items():
            client.log_text(fold_run, json.dumps(fold_data(int(fold), quality).to_plain()), DATA)
    return run_id


def test_curves_of_both_runs_are_over_each_other_in_every_panel(made, tmp_path, monkeypatch):
    first, second = experiment(made, "baseline", 0.3), experiment(made, "animal2vec", 0.9)
    client, drawn = made.store("birds").client, []
    monkeypatch.setattr(compare_figure, "save", lambda figure, path: drawn.append((figure, path)))
    compare_figure.draw_curves(client, sides(client, [first, second]), tmp_path / "pr.png")
    assert [path.name for _, path in drawn] == ["pr.png", "pr_paper.png"]
    for (figure, _), protocol in zip(drawn, ("strict", "paper"), strict=True):
        (legend,) = figure.legends
        assert [text.get_text() for text in legend.get_texts()] == ["A: birds, baseline", "B: birds, animal2vec"]
        assert legend.get_title().get_text().startswith(f"{protocol} protocol")
        panels = {axis.get_title(loc="left"): axis for axis in figure.axes if axis.axison}
        assert list(panels) == [*CLASSES, "all classes (micro)"] and not panels["beep"].lines  # it has no labels
        for title, of in (("cc", "cc"), ("all classes (micro)", "micro")):
            thick = [line for line in panels[title].lines if line.get_linewidth() > 1]
            for line, quality in zip(thick, (0.3, 0.9), strict=True):
                mean = mean_curve([fold_data(fold, quality).curves["model"][protocol][of] for fold in range(2)])
                area = np.sum(np.diff(line.get_xdata()) * line.get_ydata()[1:])
                assert area == pytest.approx(mean.ap, abs=1e-3)


def test_label_shares_are_curves_of_their_own(made, tmp_path, monkeypatch):
    run_id = experiment(made, "animal2vec", 0.9, folds=1, shares=(0.25, 1.0))
    (fold, *_) = [run for run in made.runs("birds") if "fold" in run.data.tags]
    client, drawn = made.store("birds").client, []
    monkeypatch.setattr(compare_figure, "save", lambda figure, path: drawn.append(figure))
    found = sides(client, [run_id, fold.info.run_id])
    compare_figure.draw_curves(client, found, tmp_path / "pr.png")
    names = [text.get_text() for text in drawn[0].legends[0].get_texts()]
    share = f"{100 * float(fold.data.tags['label_share']):g} %"
    assert names == ["A: birds, animal2vec, 25 %", "A: birds, animal2vec, 100 %", f"B: birds, fold 0, {share}"]


def test_the_command_writes_both_protocols_and_says_where(a2v, made, tmp_path):
    experiment(made, "baseline", 0.3, folds=1)
    experiment(made, "animal2vec", 0.9, folds=1)
    out = tmp_path / "pr.svg"
    call = ("experiment", "compare", "birds:baseline", "birds:animal2vec", "--work", made.work, "--figure")
    said = a2v(*call, out)
    assert said.code == 0, said.err
    assert f"precision-recall curves: {out}, {tmp_path / 'pr_paper.svg'}" in said.out
    assert {path.name for path in tmp_path.glob("*.svg")} == {"pr.svg", "pr_paper.svg"}
    said = a2v(*call, tmp_path / "pr_paper.svg")  # is there already
    assert said.code == 2 and "exists already" in said.only_line() and said.out == ""
    said = a2v(*call, tmp_path / "pr.jpg")
    assert said.code == 2 and "a figure's name ends with .png, .pdf, .svg" in said.only_line()
    said = a2v(*call, tmp_path / "again.png", "--json")
    assert said.code == 0 and len(json.loads(said.out)["sides"]) == 2 and (tmp_path / "again_paper.png").is_file()


def test_what_cannot_be_drawn_writes_nothing(a2v, made, tmp_path: Path):
    experiment(made, "baseline", 0.3)
    made.experiment({1.0: {0: ap(0.5)}}, variant="old")
    call = ("experiment", "compare", "--work", made.work, "--figure", tmp_path / "pr.png")
    said = a2v(*call, "birds:baseline", "birds:old")
    assert said.code == 1 and f"has no {DATA} (it is of an earlier a2v)" in said.only_line()
    shares = {share: {0: ap(0.5)} for share in (0.1, 0.25, 0.5, 1.0)}
    several = [made.experiment(shares, variant=f"v{number}") for number in range(2)]
    said = a2v(*call, *several)
    assert said.code == 2 and said.only_line().startswith("--figure: 8 curves; at most 7 can be told apart")
    assert not list(tmp_path.glob("*.png"))
