"""Statistics of a corpus: closed forms, and overlaps counted sample by sample as an oracle."""

import numpy as np
import pytest
from a2v_data.folds import Fold, Folds, make_folds
from a2v_data.stats import check_not_vocal, class_shares, corpus_statistics, fold_statistics
from data_listings import listing, of_counts


def test_shares_and_durations() -> None:
    """10 s labelled, 5 s not; b overlaps a by half a second."""
    corpus = listing([4, 6, 5], ["a", "b"], [(0, 0, 1.0, 2.0), (0, 1, 1.5, 3.0), (1, 0, 0.0, 0.5)], unlabelled=(2,))
    found = corpus_statistics(corpus, not_vocal=("b", "beep"))
    assert found["labelled_hours"] == pytest.approx(10 / 3600) and found["hours"] == pytest.approx(15 / 3600)
    assert found["labelled_recordings"] == 2 and found["events"] == 3 and found["not_vocal"] == ["b"]
    assert found["share_any"] == pytest.approx(0.25)  # 1 to 3 s and half a second
    assert found["share_vocal"] == pytest.approx(0.15)
    a = found["per_class"]["a"]
    assert (a["events"], a["recordings"]) == (2, 2) and a["share"] == pytest.approx(0.15)
    assert (a["seconds"], a["median_s"], a["shortest_s"], a["longest_s"]) == pytest.approx((1.5, 0.75, 0.5, 1.0))
    assert found["overlaps"] == [{"classes": ["a", "b"], "seconds": pytest.approx(0.5), "events": [1, 1]}]


def test_quantiles_of_lengths() -> None:
    corpus = listing([100], ["a", "never"], [(0, 0, 5.0 * k, 5.0 * k + 0.1 * (k + 1)) for k in range(11)])
    found = corpus_statistics(corpus)["per_class"]
    wanted = {"0.05": 0.15, "0.25": 0.35, "0.5": 0.6, "0.75": 0.85, "0.95": 1.05}  # 0.1 to 1.1 s in steps of 0.1
    assert found["a"]["quantiles_s"] == pytest.approx(wanted)
    assert found["never"]["events"] == 0 and found["never"]["median_s"] is None
    assert set(found["never"]["quantiles_s"].values()) == {None}


@pytest.mark.parametrize("seed", range(3))
def test_overlaps_equal_counting_milliseconds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = [3, 5, 4]
    events, sounding = [], np.zeros((3, 3, 5000), bool)  # class, recording, millisecond
    for _ in range(60):
        recording, number = int(rng.integers(3)), int(rng.integers(3))
        first = int(rng.integers(0, lengths[recording] * 1000 - 1))
        end = int(rng.integers(first + 1, min(first + 300, lengths[recording] * 1000) + 1))
        events.append((recording, number, first / 1000, end / 1000))
        sounding[number, recording, first:end] = True
    found = corpus_statistics(listing(lengths, "abc", events))
    assert found["share_any"] == pytest.approx(sounding.any(0).sum() / 12_000)
    for number, name in enumerate("abc"):
        assert found["per_class"][name]["share"] == pytest.approx(sounding[number].sum() / 12_000)
    overlaps = {tuple(row["classes"]): row for row in found["overlaps"]}
    for one, other in ((0, 1), (0, 2), (1, 2)):
        row = overlaps["abc"[one], "abc"[other]]
        for place, (mine, theirs) in enumerate(((one, other), (other, one))):
            shared = [
                sounding[theirs, recording, round(onset * 1000) : round(offset * 1000)].sum()
                for recording, number, onset, offset in events
                if number == mine
            ]
            assert row["events"][place] == sum(milliseconds > 0 for milliseconds in shared)
            if place == 0:
                assert row["seconds"] == pytest.approx(sum(shared) / 1000)


def test_neighbours_do_not_overlap_and_focal_is_no_sound() -> None:
    """Events that touch, or end and begin in two recordings, share nothing; focal marks events of other classes."""
    corpus = listing(
        [2, 2], ["a", "b", "focal"], [(0, 0, 0, 1), (0, 1, 1, 2), (1, 0, 0, 1), (1, 2, 0, 1), (0, 2, 1, 2)]
    )
    assert corpus_statistics(corpus)["overlaps"] == []


def test_weeks_of_recordings_keep_milliseconds() -> None:
    """A thousand hours: the common time axis must not lose what a short overlap is."""
    corpus = listing([3600] * 1000, ["a", "b"], [(999, 0, 3599.0, 3599.010), (999, 1, 3599.008, 3599.5)])
    (row,) = corpus_statistics(corpus)["overlaps"]
    assert row["seconds"] == pytest.approx(0.002, abs=1e-6)


def test_nothing_to_count() -> None:
    for corpus in (listing([], [], []), listing([5.0], [], []), listing([5.0], ["a"], [], unlabelled=(0,))):
        found = corpus_statistics(corpus)
        assert found["events"] == 0 and found["share_any"] == 0 and found["overlaps"] == []


def test_not_vocal_is_a_class() -> None:
    corpus = listing([5.0], ["beep", "bark"], [])
    check_not_vocal(corpus, ["beep"])
    with pytest.raises(ValueError, match=r"'bep' is no class of somewhere; did you mean 'beep'\?"):
        check_not_vocal(corpus, ["beep", "bep"])
    with pytest.raises(ValueError, match="'song' is no class of somewhere; the classes are beep, bark"):
        check_not_vocal(corpus, ["song"])


def test_sizes_of_folds() -> None:
    corpus = of_counts(np.random.default_rng(0).poisson(1.0, (40, 2)))
    folds = make_folds(corpus, 4, 0)
    found = fold_statistics(corpus, folds, [0.25])
    assert [fold["fold"] for fold in found] == [0, 1, 2, 3]
    total = {name: int((corpus.events["class"] == number).sum()) for number, name in enumerate(corpus.classes)}
    for fold in found:
        assert list(fold["train"]) == ["0.25", "1"]
        whole, share, evaluation = fold["train"]["1"], fold["train"]["0.25"], fold["evaluation"]
        assert {name: whole["events"][name] + evaluation["events"][name] for name in total} == total
        assert share["recordings"] == round(0.25 * whole["recordings"])
        assert whole["hours"] == pytest.approx(whole["recordings"] * 10 / 3600)


def test_class_shares_and_what_whole_events_allow() -> None:
    """Fold 0 evaluates r0 (3 of a, 1 of b), fold 1 r1 (1 of a, 1 of b): shares of a 3/4 and 1/2, of all 4/6."""
    corpus = of_counts(np.array([[3, 1, 0], [1, 1, 0]]))
    names = [recording.name for recording in corpus.recordings]
    rows = class_shares(corpus, Folds((Fold(0, names[1:], names[:1]), Fold(1, names[:1], names[1:]))))
    a = rows["c0"]
    assert a["fold_shares"] == [0.75, 0.5] and a["fold_events"] == [3, 1] and a["events"] == 4
    assert a["deviation"] == pytest.approx(0.25) and a["at_best"] == 0  # 4 events could be 2 and 2
    assert rows["c2"]["deviation"] is None and rows["c2"]["at_best"] is None
    eight = of_counts(np.ones((8, 1), int))
    folds = make_folds(eight, 5, 0)
    assert class_shares(eight, folds)["c0"]["at_best"] == pytest.approx(0.375)  # 1 or 2 of 1.6


def test_what_is_not_labelled_is_never_less_than_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = listing([0.1] * 3, ["a"], [(0, 0, 0.0, 0.05)])
    monkeypatch.setattr("a2v_data.stats.labelled_times", lambda _: np.array([0.1, 0.1, 0.1 + 1e-9]))
    assert corpus_statistics(corpus)["unlabelled_parts_hours"] == 0.0
