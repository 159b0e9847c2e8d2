"""`a2v bench review`: what a simulated reviewer sees, and what suggested clips are worth."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from a2v_data.corpus import Corpus
from a2v_data.scheduling import in_this_process
from a2v_experiments.basics.errors import UserError
from a2v_experiments.bench.review import Clips, Looked, Rounds, among, simulate
from a2v_experiments.bench.review_corpus import Clip, cut, revealed
from a2v_experiments.bench.review_report import clips_for, text_of, worth
from a2v_experiments.bench.review_rules import most_valuable, peaks
from a2v_experiments.review.rehearsal import suggested
from experiments_world import RATE, call_quietly, calls, recipe_tree, write_recipe

PARTS = ["train"] * 6 + ["valid"] * 2 + ["test"] * 4


def test_clips_cover_a_recording_once(corpus: Corpus) -> None:
    clips = cut(corpus, ["rec03.wav"], 1.0)  # of 12511 samples
    assert [(clip.onset_s, clip.offset_s) for clip in clips] == [(0, 1), (1, 2), (2, 3)]
    assert [clip.offset_s for clip in cut(corpus, ["rec03.wav"], 2.0)] == [2.0, 12511 / RATE]


def test_first_clips_without_a_call_are_told_before_anything_is_trained(corpus: Corpus) -> None:
    rounds = Rounds(clip_s=0.05, first=1)
    with pytest.raises(UserError, match=r"seed \d+: none of its 1 first clips holds a call; give more with --first"):
        simulate(None, corpus, (["rec00.wav"], []), rounds, {}, range(20), lambda looked: None)  # type: ignore[arg-type]


def test_only_what_was_looked_at_is_known(corpus: Corpus, tmp_path: Path) -> None:
    (label, start, end), second = calls(0)[:2]
    middle_s = (start + end) / 2 / RATE
    known = revealed(corpus, [Clip("rec00.wav", middle_s - 0.01, middle_s + 0.01)], tmp_path / "known")
    assert known.classes == corpus.classes and len(known.recordings) == len(corpus.recordings)
    assert [one.name for one in known.recordings if one.labelled] == ["rec00.wav"]
    (number,) = known.indices(["rec00.wav"])
    (event,) = known.labels(number)
    assert known.classes[event["class"]] == label and event["onset_s"] == pytest.approx(start / RATE)
    assert len(known.events) == 1  # whole, though it reaches out of the clip
    target_TC = known.targets(np.array([(number, 0)], dtype=[("recording", "<i4"), ("start", "<i8")]), 100.0, 300)[0]
    place = int(middle_s * 100)
    assert target_TC[place].tolist() == [float(name == label) for name in known.classes]
    assert np.isnan(target_TC[int(second[1] / RATE * 100) + 1]).all()  # another call, of which nothing is known
    assert (known.audio == corpus.audio).all()


def test_most_valuable_clips_are_of_classes_with_few_labels() -> None:
    promised_NC = np.array([[3.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
    assert most_valuable(promised_NC, np.array([0, 0]), 2) == [
        2,
        0,
    ]  # 2/2.5 > 3/4.5; then 4/5.5 - 1/2.5 > 2/3.5 - 1/2.5
    assert most_valuable(promised_NC, np.array([50, 0]), 2) == [2, 1]  # of the first class enough is known
    assert most_valuable(promised_NC, np.array([0, 0]), 9)[-1] == 3


def test_a_clip_promises_the_calls_that_stand_out_in_it() -> None:
    likelihood_TC = np.full((400, 2), 0.25, np.float32)  # a class that is likely everywhere promises nothing
    likelihood_TC[100:108, 0], likelihood_TC[300:308, 0] = 0.9, 0.6
    likelihood_TC[300:308, 1] = 0.8  # of the same call another class is likelier
    assert peaks(likelihood_TC, 100.0) == pytest.approx([0.9, 0.8])
    assert peaks(np.full((3, 2), 0.9, np.float32), 100.0).shape == (2,)


def test_the_rule_of_suggestions_takes_what_is_unsure_and_new() -> None:
    rng = np.random.default_rng(4)
    likelihoods = [np.full((400, 1), 0.01, np.float32) for _ in range(12)]
    sounds = [rng.normal(0, 0.01, (400, 3)).astype(np.float32) for _ in range(12)]
    for place, axis in ((2, 0), (5, 1), (7, 0)):  # 7 sounds like 2, which is known
        likelihoods[place][200:210] = 0.5
        sounds[place][200:210, axis] += 1
    every = Clips(
        [Clip("x", n, n + 4) for n in range(12)], likelihoods, sounds, 100.0, np.zeros((12, 1), int),
    )  # fmt: skip
    known, open_ = [2], [n for n in range(12) if n != 2]
    (first,) = suggested(among(every, open_), among(every, known), 1, np.random.default_rng(0))
    assert open_[first] == 5


def looked(arm: str, number: int, clips: int, ap: float) -> Looked:
    return Looked(arm, 0, number, clips, clips / 15, 3 * clips, 2, ap, ap / 2, 1.0)


def test_what_suggested_clips_are_worth() -> None:
    curve = [(8.0, 0.2), (16.0, 0.4), (24.0, 0.3), (32.0, 0.6)]
    assert clips_for(curve, 0.2) == 8 and clips_for(curve, 0.1) == 8
    assert clips_for(curve, 0.3) == pytest.approx(12)
    assert clips_for(curve, 0.5) == pytest.approx(28)  # from the best so far, .4
    assert clips_for(curve, 0.7) == math.inf
    found = [looked("random", n, int(x), y) for n, (x, y) in enumerate(curve)]
    found += [looked("suggested", n, 8 * (n + 1), ap) for n, ap in enumerate((0.2, 0.5, 0.7))]
    first, second = worth(found)["suggested"]
    assert first["random"] == pytest.approx(28) and first["times"] == pytest.approx(28 / 16)
    assert second["random"] is None
    text = text_of(found)
    assert "16 suggested clips: AP 0.500, as 28 (1.8 times as many) at random" in text
    assert "24 suggested clips: AP 0.700, as more than 32 at random" in text


def test_both_arms_begin_alike_and_what_is_done_is_written_at_once(csv_source: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(csv_source, tmp_path / "tones")
    rows = [f"audio/rec{number:02d}.wav,{part}" for number, part in enumerate(PARTS)]
    (folder / "splits.csv").write_text("\n".join(["file,split", *rows, ""]), encoding="utf-8")
    recipe = write_recipe(tmp_path / "small.yaml", recipe_tree())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("a2v_data.scheduling.on_cores", lambda: in_this_process)
        said = call_quietly(
            "bench", "review", folder, "--recipe", recipe, "--out", tmp_path / "out", "--rounds", 1, "--seeds", 1,
            "--first", 3, "--clips", 2, "--clip-s", 1, "--updates", 2, "--arm", "random", "--arm", "calls",
        )  # fmt: skip
    assert said.code == 0, said.err
    rows = [json.loads(line) for line in (tmp_path / "out" / "rounds.jsonl").read_text().splitlines()]
    of = {(row["arm"], row["round"]): row for row in rows}
    assert [(row["clips"], row["minutes"]) for row in rows] == [(3, 0.05)] * 2 + [(5, pytest.approx(5 / 60))] * 2
    same = ("labels", "classes", "ap", "map")
    assert all(of["random", 0][key] == of["calls", 0][key] for key in same)
    assert all(0 <= row["ap"] <= 1 for row in rows)
    table = list(csv.DictReader((tmp_path / "out" / "rounds.csv").read_text().splitlines()))
    assert [row["arm"] for row in table] == ["random"] * 2 + ["calls"] * 2
    assert (tmp_path / "out" / "rounds.png").stat().st_size > 10000
    again = call_quietly("bench", "review", folder, "--out", tmp_path / "out")
    assert again.code == 2 and "exists already" in again.only_line()
    wrong = call_quietly("bench", "review", folder, "--out", tmp_path / "new", "--arm", "best")
    assert wrong.code == 2 and wrong.only_line().startswith("--arm best: must be one of random, ")
