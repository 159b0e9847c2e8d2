"""`a2v experiment list` and `compare`: what they say of runs whose scores are known."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, unquote, urlparse

import pytest
from a2v_eval.comparison import paired_test
from a2v_eval.effects import holm
from experiments_store import MadeUp, ap, disown

FIRST = {0: ap(0.5, sn=0.4), 1: ap(0.6, sn=0.5), 2: ap(0.7, sn=0.6)}
SECOND = {0: ap(0.6, sn=0.4), 1: ap(0.8, sn=0.5), 2: ap(0.9, sn=0.9)}


@pytest.fixture
def made(new_work):
    return MadeUp(new_work())


def compare(a2v, made, *names, **options):
    more = [part for key, value in options.items() for part in (f"--{key}", value)]
    said = a2v("experiment", "compare", *names, "--work", made.work, *more, "--json")
    assert said.code == 0, said.err
    return json.loads(said.out)


def refused(a2v, made, *names):
    said = a2v("experiment", "compare", *names, "--work", made.work)
    assert said.code in (1, 2) and said.out == ""
    return said.only_line()


def test_a_paired_test_over_the_folds_that_both_have(a2v, made):
    a = made.experiment({1.0: FIRST | {3: ap(0.1)}}, variant="slow", finetune__updates=6)
    b = made.experiment({1.0: SECOND}, variant="fast", finetune__updates=8)
    found = compare(a2v, made, a, b)
    assert [side["run_id"] for side in found["sides"]] == [a, b]
    assert found["differences"] == {"variant": ["slow", "fast"], "finetune.updates": ["6", "8"]}
    (pair,) = found["paired"]
    assert pair["folds"] == [0, 1, 2] and pair["reason"] == ""
    micro = next(test for test in pair["tests"] if test["metric"] == "AP/micro")
    assert (pair["first"], pair["second"], found["baseline"]) == ("B", "A", {"side": "B", "best_by": "strict/AP/micro"})
    assert micro["difference"] == pytest.approx((0.1 + 0.2 + 0.2) / 3)
    assert micro["p_sign_flips"] == micro["smallest_p"] == 0.25  # all three have the same sign: 2 of 8
    oracle = paired_test([0.6, 0.8, 0.9], [0.5, 0.6, 0.7], k_folds=5)
    assert micro["p"] == micro["p_adjusted"] == pytest.approx(oracle.p_corrected_t) and micro["tie"] is True
    assert micro["low"] < 0 < micro["difference"] < micro["high"]
    assert {test["metric"] for test in pair["tests"]} == {"AP/micro", "strict/AP/micro", "AP/macro", "strict/AP/macro"}
    mean = {s["side"]: s["mean"] for s in found["scores"] if s["metric"] == "AP/micro"}
    assert mean == pytest.approx({"A": (0.5 + 0.6 + 0.7 + 0.1) / 4, "B": (0.6 + 0.8 + 0.9) / 3})


def test_text_shows_what_differs_scores_and_where_to_look(a2v, made):
    made.experiment({1.0: FIRST}, variant="slow", finetune__updates=6, model__dim=96)
    made.experiment({1.0: SECOND}, variant="fast", finetune__updates=8, model__dim=96)
    said = a2v("experiment", "compare", "birds:slow", "birds:fast", "--work", made.work)
    lines = said.out.splitlines()
    assert said.code == 0 and any(line.split() == ["finetune.updates", "6", "8"] for line in lines)
    assert "model.dim" not in said.out
    row = next(line for line in lines if line.startswith("sn "))
    assert row.split("  ")[0] == "sn" and "0.50 ± 0.10" in row and "0.60 ± 0.26" in row
    assert lines[0].startswith("B, the best by strict AP: tied with A (+.08 [") and lines[0].endswith("(Holm)")
    assert "B against A, paired over folds 0, 1, 2" in said.out and "p sign flips" in said.out
    assert f"a2v ui --work {made.work}" in said.out and "/#/compare-runs?runs=" in said.out


def test_the_link_names_every_fold_and_its_experiment(a2v, made):
    a = made.experiment({1.0: FIRST})
    b = made.experiment({1.0: SECOND}, name="bats")
    found = compare(a2v, made, a, b)
    query = parse_qs(urlparse(unquote(found["links"]["folds"]).replace("/#/", "/")).query)
    folds = [run_id for side in found["sides"] for run_id in side["folds"]["1"].values()]
    ids = [made.store(name).experiment_id for name in ("birds", "bats")]
    assert json.loads(query["runs"][0]) == folds and json.loads(query["experiments"][0]) == ids
    assert len(folds) == 6


def test_other_folds_are_not_paired(a2v, made):
    a = made.experiment({1.0: FIRST})
    b = made.experiment({1.0: SECOND}, folds_mark="0" * 64)
    (pair,) = compare(a2v, made, a, b)["paired"]
    assert pair["tests"] == [] and "not the same recordings" in pair["reason"]
    said = a2v("experiment", "compare", a, b, "--work", made.work)
    assert "B against A: no paired test: their folds are not the same recordings" in said.out


def test_single_folds_stand_side_by_side_without_a_test(a2v, made):
    made.experiment({1.0: FIRST})
    runs = {run.data.tags["fold"]: run.info.run_id for run in made.runs("birds") if "fold" in run.data.tags}
    found = compare(a2v, made, runs["0"], runs["2"])
    assert found["differences"] == {"fold": ["0", "2"]}
    assert found["paired"][0]["tests"] == [] and "at least 2 folds" in found["paired"][0]["reason"]
    micro = [(s["side"], s["mean"], s["std"]) for s in found["scores"] if s["metric"] == "AP/micro"]
    assert micro == [("A", 0.5, None), ("B", 0.7, None)]


def test_label_shares_stand_beside_equal_ones(a2v, made):
    a = made.experiment({1.0: FIRST, 0.25: SECOND})
    b = made.experiment({1.0: SECOND, 0.25: FIRST, 0.01: FIRST})
    found = compare(a2v, made, a, b)
    assert [pair["shares"] for pair in found["paired"]] == [[1.0, 1.0], [0.25, 0.25]]
    by_share = {pair["shares"][0]: pair["tests"][0]["difference"] for pair in found["paired"]}
    sign = -1 if found["baseline"]["side"] == "A" else 1  # both are as good as each other over the shares of both
    assert by_share[1.0] == pytest.approx(sign * 0.25 / 3) and by_share[0.25] == pytest.approx(-sign * 0.25 / 3)
    said = a2v("experiment", "compare", a, b, "--work", made.work)
    assert "no fold with 1% of the labels: A" in said.out


def test_one_share_each_is_compared_whatever_it_is(a2v, made):
    a, b = made.experiment({1.0: FIRST}), made.experiment({0.25: SECOND})
    (pair,) = compare(a2v, made, a, b)["paired"]
    assert pair["shares"] == [0.25, 1.0] and len(pair["tests"]) == 4


def test_a_baseline_is_tested_against_all_others_and_corrected_for_their_number(a2v, made):
    scores = [
        {1.0: {fold: ap(0.3 + 0.05 * fold + gain + 0.004 * (fold % 2) * number) for fold in range(5)}}
        for number, gain in enumerate((0.0, 0.1, 0.2, 0.001))
    ]
    base, *others = [made.experiment(one, variant=f"v{number}") for number, one in enumerate(scores)]
    found = compare(a2v, made, *others, base, baseline="v0")
    assert found["baseline"] == {"side": "D", "best_by": None}
    assert [(pair["first"], pair["second"]) for pair in found["paired"]] == [("D", "A"), ("D", "B"), ("D", "C")]
    tests = [next(t for t in pair["tests"] if t["metric"] == "strict/AP/micro") for pair in found["paired"]]
    assert [t["p_adjusted"] for t in tests] == pytest.approx(holm([t["p"] for t in tests]))
    assert [t["tie"] for t in tests] == [False, False, True]
    said = a2v("experiment", "compare", base, *others, "--baseline", "A", "--work", made.work)
    assert max(map(len, said.out.splitlines()[:2])) <= 100
    first = " ".join(said.out.split("\n\n")[0].split())
    assert first.startswith("A, in strict AP: worse than B by -.05") and "; tied with D (" in first
    best = compare(a2v, made, base, *others)
    assert best["baseline"]["side"] == "C"
    tests = [next(t for t in pair["tests"] if t["metric"] == "strict/AP/micro") for pair in best["paired"]]
    assert min(t["p_adjusted"] for t in tests) == pytest.approx(6 * min(t["p"] for t in tests))  # all six pairs
    said = a2v("experiment", "compare", base, *others, "--baseline", "v9", "--work", made.work)
    assert said.code == 2 and "--baseline v9: is none of what is compared; give one of the letters: A (v0)" in said.err


def test_seeds_are_paired_too(a2v, made):
    store, runs = made.store("birds"), []
    for gain in (0.0, 0.1):
        tags = {}
        for seed in (0, 1):
            folds = {fold: ap(0.4 + gain + 0.1 * fold + 0.01 * seed * fold + 0.02 * gain * seed) for fold in range(2)}
            run = store.run(made.experiment({1.0: folds}, variant=f"{gain} {seed}"))
            tags[f"a2v.finetune_runs.{seed}"] = run.data.tags["a2v.finetune_runs"]
        runs.append(made.experiment({}, variant=f"{gain} both", tags=tags))
        store.client.delete_tag(runs[-1], "a2v.finetune_runs")
    found = compare(a2v, made, *runs)
    test = next(t for t in found["paired"][0]["tests"] if t["metric"] == "AP/micro")
    assert (test["folds"], test["seeds"], test["difference"]) == (2, 2, pytest.approx(0.101))
    mean = {s["side"]: (s["mean"], s["n"]) for s in found["scores"] if s["metric"] == "AP/micro"}
    assert mean["A"] == (pytest.approx(0.4 + (0.1 + 0.11) / 4), 2)
    assert set(found["sides"][0]["seeds"]) == {"0", "1"}


def test_seeds_that_have_other_folds_so_far_are_averaged_fold_by_fold(a2v, made):
    """Seed 1, with fold 1 alone, is not mixed with fold 0 of seed 0."""
    store, tags = made.store("birds"), {}
    for seed, folds in enumerate(({0: ap(0.2), 1: ap(0.6)}, {1: ap(0.8)})):
        run = store.run(made.experiment({1.0: folds}, variant=f"seed {seed}"))
        tags[f"a2v.finetune_runs.{seed}"] = run.data.tags["a2v.finetune_runs"]
    some = made.experiment({}, variant="some", tags=tags)
    store.client.delete_tag(some, "a2v.finetune_runs")
    other = made.experiment({1.0: {0: ap(0.1), 1: ap(0.1)}}, variant="other")
    mean = {s["side"]: s["mean"] for s in compare(a2v, made, some, other)["scores"] if s["metric"] == "AP/micro"}
    assert mean["A"] == pytest.approx((0.2 + (0.6 + 0.8) / 2) / 2)


def test_a_chosen_metric_is_shown_and_tested(a2v, made):
    a = made.experiment({1.0: {fold: {"timestep/F1": value} for fold, value in enumerate((0.1, 0.2))}})
    b = made.experiment({1.0: {fold: {"timestep/F1": value} for fold, value in enumerate((0.2, 0.1))}})
    found = compare(a2v, made, a, b, metric="timestep/F1")
    assert {s["metric"] for s in found["scores"]} == {"timestep/F1"}
    assert [(t["metric"], t["p_sign_flips"]) for t in found["paired"][0]["tests"]] == [("timestep/F1", 1.0)]
    said = a2v("experiment", "compare", a, b, "--metric", "F1", "--work", made.work)
    assert said.code == 2 and "--metric F1: no fold has it; for example: timestep/F1" in said.only_line()


def test_names_mean_the_newest_finished_run_and_ids_may_be_short(a2v, made):
    made.experiment({1.0: FIRST})
    newest = made.experiment({1.0: SECOND})
    running = made.experiment({1.0: FIRST}, status=None)
    found = compare(a2v, made, "birds", running[:10])
    assert [side["run_id"] for side in found["sides"]] == [newest, running]


def test_a_sweep_stands_for_its_finished_trials(a2v, made):
    sweep = made.experiment({}, tags={"a2v.sweep": "grid"})
    trials = [
        made.experiment({1.0: scores}, stage="trial", parent=sweep, variant=f"p={number}", run_name=f"p={number}")
        for number, scores in enumerate((FIRST, SECOND))
    ]
    made.experiment({1.0: FIRST}, stage="trial", parent=sweep, variant="p=2", status="FAILED")
    assert [side["run_id"] for side in compare(a2v, made, "birds")["sides"]] == trials


def test_mistakes_are_one_line(a2v, made):
    a = made.experiment({1.0: FIRST})
    empty = made.experiment({}, variant="new", status=None)
    data = made.store("birds").begin("prepare", "d", "data", {}, {}, a)
    assert "is the same run as birds" in refused(a2v, made, "birds", a)
    assert "one run alone" in refused(a2v, made, a)
    assert "no experiment of that name" in refused(a2v, made, a, "bats")
    assert "no run whose id begins like that" in refused(a2v, made, a, "0123456789ab" * 2)
    assert "(RUNNING) has no scores yet" in refused(a2v, made, a, empty)
    assert "is a run of the stage 'prepare'" in refused(a2v, made, a, data)
    assert "none of them finished" in refused(a2v, made, a, "birds:new")
    assert "no run of that kind" in refused(a2v, made, a, "birds:old")


def test_an_ambiguous_beginning_is_refused(a2v, made, monkeypatch):
    runs = [made.experiment({1.0: FIRST}) for _ in range(2)]
    found = [made.store("birds").client.get_run(run_id) for run_id in runs]
    monkeypatch.setattr("a2v_experiments.store.lookup.search", lambda *arguments: found)
    assert "is the beginning of 2 run ids" in refused(a2v, made, "abcd", "birds")


@pytest.mark.parametrize("command", [["compare", "a", "b"], ["compare", "a", "b", "--json"]])
def test_without_a_store_compare_says_so_and_makes_none(a2v, tmp_path, command):
    said = a2v("experiment", *command, "--work", tmp_path / "none")
    assert said.code == 2 and "no tracking store here" in said.only_line()
    assert not (tmp_path / "none").exists()


def listed(a2v, made):
    said = a2v("experiment", "list", "--work", made.work, "--json")
    assert said.code == 0, said.err
    return json.loads(said.out)


def test_list_has_every_run_the_newest_first(a2v, made):
    old = made.experiment({1.0: FIRST}, folds__run=[0, 1, 2])
    made.store("birds").log_metrics(old, {"AP/micro_mean": 0.6, "AP/micro_std": 0.1, "strict/AP/micro_mean": 0.3})
    new = made.experiment({1.0: {0: ap(0.5)}}, status=None, name="bats", variant="big")
    rows = listed(a2v, made)
    assert [row["run_id"] for row in rows] == [new, old]
    assert rows[1]["scores"] == {"AP/micro": {"mean": 0.6, "std": 0.1}, "strict/AP/micro": {"mean": 0.3, "std": None}}
    assert [(row["folds_done"], row["folds"], row["status"]) for row in rows] == [
        (1, 5, "RUNNING"), (3, 3, "FINISHED"),
    ]  # fmt: skip
    said = a2v("experiment", "list", "--work", made.work)
    lines = said.out.splitlines()
    assert "AP/micro paper" in lines[0] and "AP/micro strict" in lines[0]
    assert new[:8] in lines[1] and "big" in lines[1] and "1/5" in lines[1]
    assert "0.600 ± 0.100" in lines[2] and "0.300" in lines[2] and "3/3" in lines[2]


def test_list_shows_label_shares_and_trials(a2v, made):
    shares = made.experiment({1.0: FIRST, 0.25: SECOND}, folds__run=[0, 1, 2])
    made.store("birds").log_metrics(shares, {"labels_0.25/AP/micro_mean": 0.7})
    sweep = made.experiment({}, name="sweep", tags={"a2v.sweep": "grid"})
    pruned = {"a2v.pruned": "true"}
    trial = made.experiment({1.0: {0: ap(0.2)}}, "sweep", "KILLED", "trial", sweep, variant="p=1", tags=pruned)
    rows = listed(a2v, made)
    assert [(row["run_id"], row["sweep"], row["trials"]) for row in rows[:2]] == [
        (sweep, None, 1),
        (trial, sweep, None),
    ]
    assert rows[1]["status"] == "PRUNED" and rows[1]["folds_done"] == 1
    by_share = {row["label_share"]: row for row in rows[2:]}
    assert set(by_share) == {0.25, 1.0} and by_share[0.25]["scores"]["AP/micro"]["mean"] == 0.7
    assert by_share[1.0]["scores"] == {}


def test_a_run_whose_process_is_gone_is_named(a2v, made):
    run_id = made.experiment({}, status=None)
    host = made.store("birds").client.get_run(run_id).data.tags["a2v.driver"].split(":")[0]
    disown(made.store("birds"), run_id, f"{host}:999999999:1")
    assert listed(a2v, made)[0]["gone"] is True
    said = a2v("experiment", "list", "--work", made.work)
    assert f"{run_id[:8]}: reads RUNNING, but its process is gone" in said.out


def test_an_empty_store_says_what_to_do(a2v, new_work, tmp_path):
    for work in (new_work(), tmp_path / "none"):
        said = a2v("experiment", "list", "--work", work)
        assert said.code == 0 and "a2v experiment run quickstart" in said.out and "makes one" in said.out
    assert a2v("experiment", "list", "--work", tmp_path / "none", "--json").out.strip() == "[]"
    assert not (tmp_path / "none").exists()
