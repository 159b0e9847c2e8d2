"""What a sweep says it found out: in words, as data, as a page; and where the scores come from."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from a2v_eval.effects import paired_effect
from a2v_experiments.recipe.validating import ValidationConfig
from a2v_experiments.sweep.answer import answer_of, to_json
from a2v_experiments.sweep.answer_page import effect_metrics, page_html
from a2v_experiments.sweep.answer_text import WIDTH, answer_lines, difference, number, p_text, to_text
from a2v_experiments.sweep.cells import OTHER_FOLDS, fold_scores, ranked_scores
from a2v_experiments.sweep.rows import Row, best_of
from experiments_store import MadeUp, ap
from experiments_world import make_recipe

METRIC = "strict/mAP/micro"
PARAMETERS = {"pretrain.mask_probability": [0.25, 0.5, 0.75], "finetune.mask_length": [2, 5]}
GAINS = {0.25: 0.0, 0.5: 0.1, 0.75: 0.0}


def swept(tmp_path, gains=GAINS, folds=5, seeds=3, noise=0.01, **sweep):
    """Recipe, rows and scores of a grid in which the mask probability matters as told, the length does not."""
    rng, rows, scores = np.random.default_rng(0), [], {}
    recipe = make_recipe(
        tmp_path, [f"seeds={list(range(seeds))}"], sweep={"parameters": PARAMETERS, **sweep}, folds__count=folds,
        folds__run=None,
    )  # fmt: skip
    for place, (probability, length) in enumerate(itertools.product(*PARAMETERS.values())):
        hard = np.linspace(0.2, 0.7, folds)
        score_SF = hard + gains[probability] + noise * rng.standard_normal((seeds, folds))
        row = Row(
            f"mask_probability={probability:g} mask_length={length}",
            {"pretrain.mask_probability": probability, "finetune.mask_length": length},
            "finished", "", f"run{place}", seeds * folds,
            {f"{METRIC}_mean": float(score_SF.mean()), f"{METRIC}_std": 0.1},
        )  # fmt: skip
        rows.append(row)
        scores[row.run_id] = {seed: dict(enumerate(map(float, by_fold))) for seed, by_fold in enumerate(score_SF)}
    rows += [
        Row("late", {"pretrain.mask_probability": 0.9, "finetune.mask_length": 2}, "pruned", "", "late", 1),
        Row("<i>bad", {"pretrain.mask_probability": 0.8, "finetune.mask_length": 2}, "failed", "no <b>memory", "bad"),
    ]
    return recipe, rows, scores


def test_the_first_line_answers_which_value_wins_and_whether_it_is_more_than_chance(tmp_path):
    recipe, rows, scores = swept(tmp_path)
    answer = answer_of(recipe, rows, scores)
    first, second, third = answer_lines(answer)
    mask = answer.parameters[0]
    by_value = {
        value: {
            seed: {fold: np.mean([scores[run_id][seed][fold] for run_id in run_ids]) for fold in range(5)}
            for seed in range(3)
        }
        for value in GAINS
        for run_ids in [[row.run_id for row in rows[:6] if value in row.parameters.values()]]
    }
    runner_up = mask.values[1].value
    oracle = paired_effect(by_value[0.5], by_value[runner_up], 1 / recipe.folds.evaluated_share)
    won = difference(oracle).replace(" ", " strict mAP ", 1)
    assert first.startswith(f"mask_probability: 0.5 wins over {runner_up} by {won}, p") and "(Holm)" in first
    assert second.startswith("mask_length: tie of ") and "p = " in second
    assert third.startswith(f"best trial: {best_of(rows, METRIC, [1.0]).name}, strict mAP .")
    text = to_text(answer)
    assert max(map(len, text.splitlines())) <= WIDTH and len(text.splitlines()) <= 20
    assert "6 trials over 5 folds x 3 seeds; left out: 1 pruned, 1 failed" in text
    assert "chosen on the folds that it is scored on" in text


def test_without_an_effect_all_is_a_tie(tmp_path):
    answer = answer_of(*swept(tmp_path, dict.fromkeys(GAINS, 0.0)))
    first, second, third = answer_lines(answer)
    assert first.startswith("mask_probability: tie of ") and second.startswith("mask_length: tie of ")
    assert "tied with all 5 others" in third and len(answer.tied) == 5


def test_one_fold_and_one_seed_is_said_to_tell_nothing(tmp_path):
    recipe, rows, scores = swept(tmp_path, folds=2, seeds=1)
    alone = {run_id: {0: {0: by_seed[0][0]}} for run_id, by_seed in scores.items()}
    first, *_, last = answer_lines(answer_of(recipe, rows, alone))
    assert "0.5 is ahead of" in first and first.endswith("one score of each: whether they differ cannot be told")
    assert "against the other 5: one score of each" in last


def test_drawn_combinations_are_said_not_to_be_paired(tmp_path):
    answer = answer_of(*swept(tmp_path, search="optuna", trials=6))
    first, second, _ = answer_lines(answer)
    assert answer.parameters == [] and all(
        "rank correlation" in line and "not paired" in line for line in (first, second)
    )
    assert "Optuna chose values by the scores of earlier trials" in to_text(answer)


def test_a_trial_chosen_on_validation_recordings_is_tested_on_the_folds(tmp_path, monkeypatch):
    """It is the best by another score than the one that is tested, and is then one of n - 1 comparisons."""
    recipe, rows, scores = swept(tmp_path)
    for place, row in enumerate(rows[:6]):
        row.metrics[f"validation/{METRIC}_mean"] = 0.9 if place == 0 else 0.1
    monkeypatch.setattr("a2v_experiments.sweep.answer.score_name", lambda recipe: f"validation/{METRIC}")
    answer = answer_of(recipe, rows, scores)
    assert answer.names[answer.best] == rows[0].name and answer.on_validation
    assert "chosen on validation recordings" in to_text(answer)
    smallest = min(one.effect.p for one in answer.rest)
    assert min(one.p for one in answer.rest) == pytest.approx(5 * smallest)


def test_variants_that_leave_a_key_alone_have_the_recipes_value(tmp_path):
    variants = {"base": {}, "long": {"finetune.mask_length": 7}}
    recipe = make_recipe(tmp_path, sweep={"variants": variants}, finetune__mask_length=3)
    rows = [
        Row(name, changes, "finished", "", name, 3, {f"{METRIC}_mean": score})
        for (name, changes), score in zip(variants.items(), (0.2, 0.4), strict=True)
    ]
    scores = {"base": {None: {0: 0.1, 1: 0.2, 2: 0.3}}, "long": {None: {0: 0.3, 1: 0.4, 2: 0.51}}}
    answer = answer_of(recipe, rows, scores)
    assert [value.value for value in answer.parameters[0].values] == [7, 3]
    assert effect_metrics(answer) == pytest.approx({
        "effect/finetune.mask_length/7": 0.61 / 3, "effect/finetune.mask_length/3": -0.61 / 3,
    })  # fmt: skip


def test_scores_are_those_of_every_seed_and_fold_and_of_the_same_recordings(new_work):
    made = MadeUp(new_work())
    runs = [
        made.experiment({1.0: {0: ap(0.4, 0.2), 1: ap(0.6, 0.3)}, 0.5: {0: ap(0.2, 0.1), 1: ap(0.4, 0.3)}}),
        made.experiment({1.0: {0: ap(0.5, 0.5)}, 0.5: {0: {"AP/micro": 0.1}}}),
        made.experiment({1.0: {0: ap(0.4, 0.4)}, 0.5: {0: ap(0.4, 0.4)}}, folds_mark="0" * 64),
    ]
    client = made.store("birds").client
    rows = [Row(run_id, {}, "finished", "", run_id) for run_id in runs]
    found = fold_scores(client, [row.run_id for row in rows], "strict/AP/micro", [1.0, 0.5])
    assert found[0] == {None: {0: pytest.approx(0.15), 1: pytest.approx(0.3)}}
    assert found[1] == {None: {}}  # one of its label shares does not define it
    assert found[2] == {None: {OTHER_FOLDS: pytest.approx(0.4)}}


def test_a_trial_that_predicts_nothing_in_a_fold_is_not_the_better_for_it(new_work):
    """AP under `paper` is undefined there; no trial has labels of sn in fold 1, of which none is ranked."""
    made = MadeUp(new_work())
    lucky, steady = (
        made.experiment({1.0: {0: {"AP/micro": a, "AP/sn": 0.5}, 1: b, 2: b}})
        for a, b in ((0.9, {"strict/AP/micro": 0.0}), (0.6, {"AP/micro": 0.6}))
    )
    other = made.experiment({1.0: {0: {"AP/micro": 0.8}}}, folds_mark="0" * 64)  # of other recordings
    silent = made.experiment({1.0: {0: {"strict/AP/micro": 0.0}}})
    client, runs = made.store("birds").client, [lucky, steady, other, silent]
    assert ranked_scores(client, runs, "AP/micro", [1.0]) == {lucky: pytest.approx(0.3)}
    assert ranked_scores(client, runs, "AP/sn", [1.0]) == ranked_scores(client, runs, "strict/AP/micro", [1.0]) == {}
    rows = [
        Row("lucky", {}, "finished", metrics={"AP/micro_mean": 0.9}, ranked={"AP/micro": 0.3}),
        Row("steady", {}, "finished", metrics={"AP/micro_mean": 0.6}),
    ]
    assert best_of(rows, "AP/micro", [1.0]).name == "steady"


def test_numbers_are_short_and_tell_the_side_of_the_level():
    assert [number(x) for x in (0.04, -0.02, 1.0, -0.001)] == [".04", "-.02", "1.00", ".00"]
    assert [p_text(p) for p in (0.0001, 0.004, 0.0496, 0.2, 1.0)] == [
        "p < .001", "p = .004", "p = .0496", "p = .20", "p = 1",
    ]  # fmt: skip


class Outline(HTMLParser):
    """Addresses and text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.links += [found["href"]] if tag == "a" else []
        self.loaded += [found[key] for key in ("src", "srcset", "data") if key in found]
        self.loaded += [found["href"]] if tag == "link" else []

    def handle_data(self, data):
        self.text += data


def page(tmp_path, **options):
    recipe, rows, scores = swept(tmp_path, **options)
    answer = answer_of(recipe, rows, scores)
    return answer, page_html(
        recipe,
        answer,
        rows,
        "0123456789",
        "http://x/#/experiments/1/runs/RUN?workflowType=machine_learning",
        ("abcdef1234567", True),
    )


def test_the_page_says_the_answer_first_and_loads_nothing(tmp_path):
    answer, html = page(tmp_path)
    outline = Outline()
    outline.feed(html)
    assert outline.loaded == [] and "@import" not in html and "url(" not in html
    text = " ".join(outline.text.split())
    first = answer_lines(answer)[0]
    assert first in text and text.index(first) < text.index("Differences in strict mAP") < text.index("Trials")
    assert (
        any(one.startswith("http://x/#/experiments/1/runs/run0?workflowType=m") for one in outline.links)
        and "abcdef123456 with uncommitted changes" in text
    )
    assert "no <b>memory" in outline.text and "<b>memory" not in html and "<i>bad" in outline.text
    assert html.count('<circle class="wins"') + html.count('<circle class="ties"') == 2 + 1 + 5
    json.dumps(to_json(answer))


CHROMIUM = Path("/usr/bin/chromium")


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs Debian's chromium (apt install chromium)")
def test_a_click_on_a_columns_head_sorts_the_trials(tmp_path):
    from playwright.sync_api import sync_playwright

    (tmp_path / "sweep.html").write_text(page(tmp_path)[1], encoding="utf-8")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        shown = browser.new_page(viewport={"width": 400, "height": 800})
        asked: list[str] = []
        shown.on("request", lambda request: asked.append(request.url))
        shown.goto((tmp_path / "sweep.html").as_uri())
        assert len(asked) == 1 and shown.evaluate("document.documentElement.scrollWidth") == 400
        shown.get_by_role("button", name="strict mAP").click()
        cells = shown.evaluate("[...document.querySelectorAll('#trials tbody tr')].map(row => row.cells[4].dataset.v)")
        known = [float(cell) for cell in cells if cell]
        assert known == sorted(known, reverse=True) and len(known) == 6 and cells[6:] == ["", ""]
        browser.close()


def test_a_sweep_that_learned_nothing_says_so(tmp_path):
    recipe, rows, scores = swept(tmp_path)
    nothing = {
        run_id: {seed: {fold: score * 1e-4 for fold, score in folds.items()} for seed, folds in cells.items()}
        for run_id, cells in scores.items()
    }
    told = to_text(answer_of(recipe, rows, nothing))
    assert "no trial finds its calls, as no score is above 0.000: what differs says nothing" in " ".join(told.split())
    assert "they differ by less than .0005" in told and "ahead" not in told
    assert "no trial finds" not in to_text(answer_of(recipe, rows, scores))


def test_a_trial_chosen_on_validation_that_loses_on_the_folds_is_not_said_to_win(tmp_path):
    """Validation recordings choose the last trial, which the folds have far behind the one of mask probability .5."""
    recipe, rows, scores = swept(tmp_path)
    recipe = recipe.model_copy(
        update={
            "folds": recipe.folds.model_copy(update={"validation": 0.2}),
            "finetune": recipe.finetune.model_copy(update={"validation": ValidationConfig()}),
        }
    )
    chosen = {f"validation/{METRIC}_mean": 0.9}
    rows[5] = replace(rows[5], metrics={**rows[5].metrics, **chosen})
    for place in range(5):
        rows[place] = replace(rows[place], metrics={**rows[place].metrics, f"validation/{METRIC}_mean": 0.1})
    answer = answer_of(recipe, rows, scores)
    assert answer.names[answer.best] == rows[5].name and answer.on_validation
    best = answer_lines(answer)[-1]
    ahead = max((2, 3), key=lambda place: rows[place].metrics[f"{METRIC}_mean"])
    assert f"on the folds 2 of the 5 others are better, {rows[ahead].name} by +." in best and "better than" not in best
    status = {one[0]: one[1] for one in zip(answer.names, statuses(recipe, answer, rows), strict=True)}
    assert [status[rows[place].name] for place in (2, 3, 5)] == ["better", "better", "best"]


def statuses(recipe, answer, rows):
    text = page_html(recipe, answer, rows, "id", "http://x/RUN", (None, False))
    body = text.split('<table id="trials"')[1].split("<tbody>")[1]
    return [row.split('<td data-v="')[1].split('"')[0] for row in body.split("<tr ")[1:7]]


def test_a_value_is_not_said_to_win_where_the_paired_combinations_say_the_opposite(tmp_path):
    """Half of the grid failed: .25 has the highest mean as only its better length is there, .5 beats it in that one."""
    recipe, rows, scores = swept(tmp_path)
    for place, row in enumerate(rows[:6]):
        gain = {0: 0.2, 1: None, 2: 0.3, 3: -0.3, 4: None, 5: -0.4}[place]
        if gain is None:
            rows[place] = replace(row, status="failed")
            continue
        of = np.random.default_rng(place).standard_normal((3, 5)) * 0.01 + np.linspace(0.4, 0.6, 5) + gain
        scores[row.run_id] = {seed: dict(enumerate(map(float, by_fold))) for seed, by_fold in enumerate(of)}
    first = answer_lines(answer_of(recipe, rows, scores))[0]
    assert "0.25 has the highest mean, yet is behind 0.5 where both have the same combinations: -.1" in first
    assert "wins" not in first


def test_a_trial_of_other_recordings_is_not_said_to_be_tied(tmp_path):
    recipe, rows, scores = swept(tmp_path, {0.25: 0.0, 0.5: 0.1, 0.75: 0.0})
    scores["run4"] = {
        seed: {fold + OTHER_FOLDS: score for fold, score in folds.items()} for seed, folds in scores["run4"].items()
    }
    answer = answer_of(recipe, rows, scores)
    assert rows[4].name not in answer.tied and answer.apart == [rows[4].name]
    assert (
        f"not compared with {rows[4].name}, of other folds; better than 3 of the 4 others" in answer_lines(answer)[-1]
    )
    assert statuses(recipe, answer, rows)[4] == "not compared"
