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
    assert lines[0].split() == ["class", "labels", "AP", "paper", "AP", "strict"]
    assert lines[2].split() == ["a", "120", "0.70", "±", "0.20", "0.60", "±", "0.26"]
    assert lines[3].split() == ["b", "7", "0.95", "±", "0.07", "–"]
    assert lines[5].startswith("macro") and lines[6].startswith("micro")
    ends = {len(line) for line in (lines[0], lines[2], lines[3], lines[6])}
    assert len(ends) == 1
    assert "over 3 folds" in lines[7] and "undefined" in lines[-1]


def test_text_table_sets_variants_side_by_side():
    table = text_table({"ours": summarise(FOLDS), "energy": summarise(FOLDS[:1])}, ["a"]).splitlines()
    assert table[0].split() == ["ours", "energy"]
    assert table[1].split() == ["class", "paper", "strict", "paper", "strict"]
    assert table[3].split() == ["a", "0.70", "±", "0.20", "0.60", "±", "0.26", "0.50", "0.40"]


def test_csv_holds_full_precision_and_empty_cells_where_undefined():
    rows = list(csv.DictReader(io.StringIO(csv_table({"ours": summarise(FOLDS)}, ["a", "b"]))))
    by = {(row["protocol"], row["class"]): row for row in rows}
    assert len(rows) == 2 * 4
    assert float(by["paper", "micro"]["AP_mean"]) == pytest.approx(0.75, abs=1e-15)
    assert float(by["strict", "a"]["AP_std"]) == pytest.approx(statistics.stdev([0.4, 0.5, 0.9]), abs=1e-15)
    assert by["strict", "b"]["AP_mean"] == "" and by["strict", "b"]["folds"] == "0"
    assert by["paper", "b"]["folds"] == "2"
