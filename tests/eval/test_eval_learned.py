"""Which classes a model has learned, from what its description says."""

import pytest
from a2v_eval.learned import class_fits, learned

CHOSEN = {
    "method": "avg",
    "F1": {"good": 0.3, "poor": 0.2999},
    "precision": {"good": 0.25, "poor": 0.2},
    "recall": {"good": 0.375, "poor": 0.6},
    "labels": {"good": 40, "poor": 1, "rare": 7, "none": 0},
}
THRESHOLDS = {"good": 0.4, "poor": 0.01}


def test_learned_is_an_f1_of_at_least_03_on_at_least_one_label():
    names = ["good", "poor", "rare", "none"]
    assert learned(names, THRESHOLDS, CHOSEN) == {"good": True, "poor": False, "rare": False, "none": False}
    fits = class_fits(names, THRESHOLDS, CHOSEN)
    assert (fits["good"].threshold, fits["good"].precision, fits["good"].labels) == (0.4, 0.25, 40)
    assert fits["poor"].reason() == "F1 0.30 on 1 label"
    assert fits["rare"].reason() == "nothing found at any threshold on 7 labels"
    assert fits["none"].reason() == "no label to choose a threshold on"


def test_what_is_not_known_counts_as_learned():
    of_before = {"method": "avg", "F1": {"good": 0.8, "poor": 0.05}}
    fits = class_fits(["good", "poor", "rare", "own"], THRESHOLDS | {"own": 0.5}, of_before)
    # 'rare' has no threshold though thresholds were chosen by F1; somebody set that of 'own'
    assert {name: fit.learned for name, fit in fits.items()} == {
        "good": True, "poor": False, "rare": False, "own": None,
    }  # fmt: skip
    assert (fits["poor"].reason(), fits["rare"].reason()) == ("F1 0.05", "no threshold could be chosen")
    assert learned(["good", "rare"], {}, {}) == {"good": True, "rare": True}


@pytest.mark.parametrize("odd", [None, "high", [0.5], {"good": "0.1"}, {"good": float("nan")}, {"good": True}])
def test_a_description_of_elsewhere_may_hold_anything(odd):
    assert learned(["good"], {"good": 0.4}, {"F1": odd, "labels": odd}) == {"good": True}
