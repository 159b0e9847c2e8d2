"""The table of class by label share."""

import csv
import io

import pytest
from a2v_eval.label_shares import share_csv, share_rows, share_text
from a2v_eval.summary import summarise


def fold(share, ap):
    sizes = {f"labels/{part}/{c}": n * share for c, n in (("cc", 800), ("rare", 0)) for part in ("train", "validation")}
    sizes["labels/validation/cc"] /= 4
    held_out = {"labels/evaluation/cc": 210, "labels/evaluation/rare": 0}
    return {"AP/cc": ap, "strict/AP/cc": ap / 2, "AP/micro": ap, "AP/macro": ap, **sizes, **held_out}


SHARES = {
    1.0: summarise([fold(1, 0.9), fold(1.1, 0.8)]),  # 800 and 880 labels: 840, deviation 40 times the root of 2
    0.25: summarise([fold(0.25, 0.7), fold(0.25, 0.5)]),
    0.01: summarise([fold(0.01, 0.3)]),
}


def test_shares_stand_side_by_side_from_the_smallest():
    lines = share_text(SHARES, ["cc", "rare"], "paper").splitlines()
    assert lines[0].split("%")[0].split() == ["1"] and lines[0].count("of labels") == 3
    assert lines[1].split() == ["class", *["train", "AP", "paper"] * 3, "evaluation"]
    few, quarter, whole = ["8", "0.30"], ["0.60", "±", "0.14"], ["0.85", "±", "0.07"]
    sizes = [["200", "±", "0.0"], ["840", "±", "56.6"], ["210", "±", "0.0"]]
    assert lines[3].split() == ["cc", *few, *sizes[0], *quarter, *sizes[1], *whole, *sizes[2]]
    none = ["0", "±", "0.0", "–"]
    assert lines[4].split() == ["rare", "0", "–", *none, *none, "0", "±", "0.0"]
    assert lines[7].split() == ["micro", *few, "200", *quarter, "840", *whole, "210"]
    assert "paper protocol" in lines[8] and "over 2 folds" in lines[8] and "undefined" in lines[9]


def test_rows_hold_everything_and_csv_is_empty_where_undefined():
    rows = share_rows(SHARES, ["cc", "rare"])
    assert len(rows) == 2 * 4 * 3
    (row,) = [r for r in rows if (r["protocol"], r["class"], r["label_share"]) == ("strict", "cc", 0.25)]
    assert row["AP_mean"] == pytest.approx(0.3) and row["folds"] == 2
    assert (row["train_labels"], row["validation_labels"], row["evaluation_labels"]) == (200, 50, 210)
    assert row["train_labels_std"] == 0
    (row,) = [r for r in rows if (r["protocol"], r["class"], r["label_share"]) == ("strict", "cc", 1.0)]
    assert row["train_labels_std"] == pytest.approx(40 * 2**0.5)
    read = list(csv.DictReader(io.StringIO(share_csv(SHARES, ["cc", "rare"]))))
    assert [r["AP_mean"] == "" for r in read if r["class"] == "rare"] == [True] * 6
    assert {r["folds"] for r in read if r["class"] == "rare"} == {"0"}
