"""Folds to mean and spread, and the tables."""

import csv
import io
import statistics

import pytest
from a2v_eval.summary import Spread, csv_table, summarise, text_table

FOLDS = [
    {"AP/a": 0.5, "AP/micro": 0.6, "AP/macro": 0.5, "strict/AP/a": 0.4, "strict/AP/micro": 0.5},
    {"AP/a": 0.7, "AP/micro": 0.7, "AP/macro": 0.7, "strict/AP/a": 0.5, "strict/AP/micro": 0.4, "AP/b": 0.9},
    {"AP/a": 0.9, "AP/micro": 0.95, "AP/macro": 0.9, "strict/AP/a": 0.9, "strict/AP/micro": 0.3, "AP/b": 1.0},
]


def test_mean_and_sample_standard_deviation_over_the_folds_that_define_a_metric():
    summary = summarise(FOLDS)
    assert summary["AP/a"].mean == pytest.approx(0.7) and summary["AP/a"].std == pytest.approx(0.2)
    assert summary["AP/micro"].std == pytest.approx(statistics.stdev([0.6, 0.7, 0.95]))
    assert summary["AP/b"].n == 2 and summary["AP/b"].mean == pytest.approx(0.95)
    assert "AP/c" not in summary and summarise([]) == {}


def test_one_fold_has_no_spread():
    assert summarise(FOLDS[:1])["AP/a"] == Spread(0.5, None, 1)
    assert str(Spread(0.5, None, 1)) == "0.50" and str(Spread(0.7, 0.2, 3)) == "0.70 ± 0.20"


def test_text_table_is_aligned_and_says_what_is_undefined():
    lines = text_table({"animal2vec": summarise(FOLDS)}, ["a", "b"], {"a": 120, "b": 7}).splitlines()
    assert lines[0].split() == ["class", "labels", "AP", "strict", "AP", "paper"]
    assert lines[2].split() == ["a", "120", "0.60", "±", "0.26", "0.70", "±", "0.20"]
    assert lines[3].split() == ["b", "7", "–", "0.95", "±", "0.07"]
    assert lines[5].startswith("macro") and lines[6].startswith("micro")
    ends = {len(line) for line in (lines[0], lines[2], lines[3], lines[6])}
    assert len(ends) == 1
    assert "over 3 folds" in lines[7] and "undefined" in lines[-1]


def test_text_table_sets_variants_side_by_side():
    table = text_table({"ours": summarise(FOLDS), "energy": summarise(FOLDS[:1])}, ["a"]).splitlines()
    assert table[0].split() == ["ours", "energy"]
    assert table[1].split() == ["class", "strict", "paper", "strict", "paper"]
    assert table[3].split() == ["a", "0.60", "±", "0.26", "0.70", "±", "0.20", "0.40", "0.50"]


def calls(found: int, predicted: int, labelled: int, f1: float, of: str) -> dict[str, float]:
    counts = {"found": found, "predicted": predicted, "labelled": labelled}
    return {f"strict/{what}/{of}": float(count) for what, count in counts.items()} | {f"strict/F1/{of}": f1}


def test_calls_and_f1_stand_beside_ap_and_energy_has_none():
    folds = [
        FOLDS[0] | calls(2, 10, 5, 0.25, "a") | calls(2, 11, 5, 0.2, "micro"),
        FOLDS[1] | calls(4, 6, 5, 0.75, "a") | calls(4, 9, 6, 0.5, "micro"),
    ]
    variants = {"model": summarise(folds), "energy": summarise(FOLDS[:1])}
    lines = text_table(variants, ["a"], calls_of="model").splitlines()
    assert lines[1].split() == ["class", "found", "predicted", "labelled", "F1", "strict", "paper", "strict", "paper"]
    sums, means = ["6", "16", "10"], ["0.50", "0.45", "±", "0.07", "0.60", "±", "0.14"]
    assert lines[3].split() == ["a", *sums, *means, "0.40", "0.50"]
    assert lines[6].split()[:5] == ["micro", "6", "20", "11", "0.35"]
    assert lines[5].split()[:2] == ["macro", "–"]  # no calls
    assert any(line.startswith("found, predicted, labelled: calls under strict") for line in lines)
    of_before = text_table({"model": summarise(FOLDS), "energy": summarise(FOLDS)}, ["a"], calls_of="model")
    assert "found" not in of_before and of_before.splitlines()[1].split()[:2] == ["class", "strict"]


def test_a_table_with_calls_stays_narrower_than_100_characters():
    name = "Phylloscopus trochilus (song)"
    folds = [{key.replace("/a", f"/{name}"): value for key, value in fold.items()} for fold in FOLDS]
    folds = [fold | calls(12345, 67890, 23456, 0.5, name) | calls(12345, 67890, 23456, 0.5, "micro") for fold in folds]
    variants = {"model": summarise(folds), "energy": summarise(folds)}
    lines = text_table(variants, [name], calls_of="model").splitlines()
    table = lines[: next(n for n, line in enumerate(lines) if line.startswith("AP: mean"))]
    assert max(map(len, table)) < 100
    assert [line for line in table if line in variants] == ["model", "energy"]  # one below the other


def test_where_paper_flatters_is_said_in_words():
    folds = [{"AP/a": 1.0, "strict/AP/a": 0.0, "AP/b": 0.5, "strict/AP/b": 0.2, "AP/c": 0.49, "strict/AP/c": 0.0}]
    folds[0] |= {"AP/micro": 0.6, "strict/AP/micro": 0.19, "AP/macro": 0.9, "strict/AP/macro": 0.1}
    said = text_table({"ours": summarise(folds)}, ["a", "b", "c"]).splitlines()[-1]
    assert said.startswith("paper flatters a, micro, of which strict AP is below 0.2: any overlap counts")
    assert "paper flatters" not in text_table({"ours": summarise(FOLDS)}, ["a"])


def test_csv_holds_full_precision_and_empty_cells_where_undefined():
    rows = list(csv.DictReader(io.StringIO(csv_table({"ours": summarise(FOLDS)}, ["a", "b"]))))
    by = {(row["protocol"], row["class"]): row for row in rows}
    assert len(rows) == 2 * 4
    assert float(by["paper", "micro"]["AP_mean"]) == pytest.approx(0.75, abs=1e-15)
    assert float(by["strict", "a"]["AP_std"]) == pytest.approx(statistics.stdev([0.4, 0.5, 0.9]), abs=1e-15)
    assert by["strict", "b"]["AP_mean"] == "" and by["strict", "b"]["folds"] == "0"
    assert by["paper", "b"]["folds"] == "2"
