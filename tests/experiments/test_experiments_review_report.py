"""Numbers of a simulated review beside what is known of its predictions, and what `a2v review report` writes."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import typer
from a2v_experiments.basics.errors import UserError
from a2v_experiments.commands.review_report import report as report_command
from a2v_experiments.review.calls import Calls, Event, Recorded, item_id, unit
from a2v_experiments.review.journal import Decision, State, open_journal
from a2v_experiments.review.numbers import numbers
from a2v_experiments.review.order import ordered, windows
from a2v_experiments.review.report import plain, report_of, rows_of, text
from typer.testing import CliRunner

NAMES = ("S1_20260501_050000.wav", "S1_20260502_050000.wav")
LENGTH_S = 600.0


def made_up(folder: Path, seed: int, count: int = 400) -> tuple[Calls, dict[str, bool]]:
    """Predictions of two classes on two days, and which are right: of cc as often as their likelihood says, of sn 3 in
    10, whatever it says."""
    rng = np.random.default_rng(seed)
    events, right = [], {}
    for label in ("cc", "sn"):
        for onset in np.sort(rng.uniform(0, LENGTH_S - 1, count)):
            file = NAMES[rng.integers(2)]
            likelihood = round(float(rng.beta(1.2, 1.2)) * 0.8 + 0.2, 4)
            event = Event(item_id(file, label, float(onset)), file, label, float(onset), float(onset) + 0.1, likelihood)
            events.append(event)
            right[event.id] = rng.random() < (likelihood if label == "cc" else 0.3)
    recordings = {name: Recorded(name, Path(name), LENGTH_S, 8000, 1) for name in NAMES}
    return Calls(folder, folder, tuple(events), recordings, ("cc", "sn")), right


def judge(state: State, events: Iterable[Event], right: dict[str, bool]) -> None:
    for event in events:
        verdict = "right" if right[event.id] else "wrong"
        n = len(state.lines) + 1
        state.add(
            Decision(n, event.id, "event", verdict, event.file, event.label, event.onset_s, event.offset_s, order="x")
        )


def test_the_precision_of_simulated_reviews_holds_the_truth(tmp_path: Path) -> None:
    held = total = 0
    for seed in range(50):
        calls, right = made_up(tmp_path, seed, 200)
        state = State()
        judge(state, ordered(calls.events, "stratified", per_band=5), right)
        # what the likeliest are, is known too, and must not count
        judge(state, [event for event in ordered(calls.events, "likelihood")[:60] if state.of(event.id) is None], right)
        for one in numbers(calls, state).classes:
            for at, share in zip(one.curve.thresholds, one.curve.shares, strict=True):
                if round(100 * at) not in (30, 50, 70):
                    continue
                truth = [
                    right[event.id]
                    for event in calls.events
                    if event.label == one.label and (event.likelihood or 0) >= at
                ]
                assert share is not None
                held += share.lower <= np.mean(truth) <= share.upper
                total += 1
    assert total == 300 and held >= 0.9 * total


def test_thresholds_counts_and_misses(tmp_path: Path) -> None:
    calls, right = made_up(tmp_path, 8)
    state = State()
    judge(state, ordered(calls.events, "stratified", per_band=30), right)
    found = numbers(calls, state)
    report = report_of(calls, state, found, 0.7, sure=False)
    cc = report.thresholds["cc"]
    above = [right[event.id] for event in calls.events if event.label == "cc" and (event.likelihood or 0) >= cc]
    assert np.mean(above) == pytest.approx(0.7, abs=0.1)
    assert "sn" not in report.thresholds and "at no threshold" in report.chosen["sn"].reason
    sure = report_of(calls, state, found, 0.7, sure=True).thresholds["cc"]
    assert sure > cc
    for day in found.days:
        truth = sum(
            right[event.id]
            for event in calls.events
            if event.label == day.label and event.file == NAMES[int(day.day[-1]) - 1]
        )
        assert day.right is not None and day.right.lower <= truth <= day.right.upper
    assert {day.day for day in found.days} == {"2026-05-01", "2026-05-02"}
    assert found.windows.looked == 0 and all(one.missed is None for one in found.classes)

    for number, one in enumerate(windows(calls)[0][:20]):
        state.add(Decision(0, one.id, "stretch", "seen", one.file, "", one.start_s, one.stop_s))
        if number % 4 == 0:
            middle = (one.start_s + one.stop_s) / 2
            state.add(Decision(0, f"d{number}", "drawn", "right", one.file, "cc", middle - 0.05, middle + 0.05))
    with_windows = numbers(calls, state)
    first = {one.label: one for one in with_windows.classes}
    seen = with_windows.windows
    assert seen.looked == 20 and first["sn"].missed is not None and first["sn"].missed.estimate == 0
    missed = first["cc"].missed
    assert missed is not None and missed.estimate == pytest.approx(5 / seen.looked_s * seen.total_s)
    assert first["cc"].recall is not None and 0 < first["cc"].recall.lower < first["cc"].recall.estimate < 1
    assert [row["class"] for row in rows_of(report_of(calls, state, with_windows, 0.7, False))["missed"]] == [
        "cc",
        "sn",
    ]


def test_windows_of_another_length_are_told(tmp_path: Path) -> None:
    calls, right = made_up(tmp_path, 8)
    state = State()
    judge(state, ordered(calls.events, "stratified"), right)
    for one in windows(calls, 5.0)[0][:12]:
        state.add(Decision(0, one.id, "stretch", "seen", one.file, "", one.start_s, one.stop_s, order="windows"))
    assert numbers(calls, state, 5.0).windows.others == 0 and numbers(calls, state, 5.0).windows.looked == 12
    found = numbers(calls, state, 2.0)
    said = text(report_of(calls, state, found, 0.9, False))
    assert found.windows.others > 0 and "give the --window-s of the review" in said


def test_the_surer_threshold_stands_beside(tmp_path: Path) -> None:
    calls, right = made_up(tmp_path, 8)
    state = State()
    judge(state, ordered(calls.events, "stratified", per_band=30), right)
    found = numbers(calls, state)
    both, sure = (report_of(calls, state, found, 0.7, one) for one in (False, True))
    assert both.surely == sure.surely == sure.thresholds and both.surely["cc"] > both.thresholds["cc"]
    assert "surely from (--sure)" in text(both) and "surely from" not in text(sure)
    assert plain(both)["classes"]["cc"]["surely_from"] == both.surely["cc"]


def test_what_nobody_could_judge_is_in_no_share(tmp_path: Path) -> None:
    calls, right = made_up(tmp_path, 3, 40)
    state = State()
    for event in sorted(calls.events, key=lambda event: unit(event.id)):
        verdict = "unsure" if event.label == "sn" else "right" if right[event.id] else "other"
        state.add(Decision(0, event.id, "event", verdict, event.file, "xx", event.onset_s, event.offset_s))
    cc, sn = numbers(calls, state).classes
    truth = np.mean([right[event.id] for event in calls.events if event.label == "cc"])
    assert cc.precision is not None and cc.precision.estimate == pytest.approx(truth)
    assert cc.precision.lower == cc.precision.upper == cc.precision.estimate
    assert sn.precision is None and sn.verdicts == {"unsure": 40}


def written(folder: Path) -> Path:
    """A table with recordings and a journal in which everything was judged."""
    import soundfile

    rng = np.random.default_rng(0)
    (folder / "audio").mkdir(parents=True)
    for name in NAMES:
        soundfile.write(folder / "audio" / name, np.zeros(8000 * 60), 8000)
    table = folder / "calls.csv"
    rows = [
        [NAMES[n % 2], f"{n / 2:.3f}", f"{n / 2 + 0.2:.3f}", "cc", f"{rng.uniform(0.2, 1):.3f}"] for n in range(100)
    ]
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["file", "onset_s", "offset_s", "label", "likelihood"], *rows])
    from a2v_experiments.review.calls import open_calls

    calls = open_calls(table, folder / "audio")
    with open_journal(calls.folder) as journal:
        for event in ordered(calls.events, "stratified", per_band=8):
            verdict = "right" if rng.random() < (event.likelihood or 0) else "wrong"
            journal.decide(
                Decision(
                    0,
                    event.id,
                    "event",
                    verdict,
                    event.file,
                    event.label,
                    event.onset_s,
                    event.offset_s,
                    clip=(0.0, 2.0),
                    whole=True,
                    order="stratified",
                    reviewer="Anna",
                )
            )
    return table


def call(*arguments: object) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(report_command)
    result = CliRunner().invoke(app, [str(one) for one in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_the_command_writes_tables_figures_and_thresholds(tmp_path: Path) -> None:
    table = written(tmp_path)
    before = table.read_bytes()
    with pytest.raises(UserError, match="--recordings"):
        call(table, "--no-track")
    code, said = call(table, "--recordings", tmp_path / "audio", "--no-track", "--precision", 0.6)
    assert code == 0 and "right (95 %)" in said and "misses are not known" in said and "review export" in said
    out = tmp_path / "calls.review" / "report"
    names = {path.name for path in out.iterdir()}
    assert {"precision.csv", "calibration.csv", "counts_per_day.csv", "thresholds.csv", "report.json"} <= names
    assert {"precision.png", "calibration.png"} <= names and "missed.csv" not in names
    told = json.loads((out / "report.json").read_text())
    assert told["reviewers"] == ["Anna"] and told["reviewed_minutes"] == pytest.approx(4 / 60, abs=1e-3)
    row = next(csv.DictReader((out / "thresholds.csv").open()))
    assert row["class"] == "cc" and 0.2 <= float(row["threshold"]) < 1
    assert table.read_bytes() == before
    code, said = call(table, "--recordings", tmp_path / "audio", "--no-track", "--json")  # anew
    assert json.loads(said)["classes"]["cc"]["predicted"] == 100


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    table = written(tmp_path / "x")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="holds other things"):
        call(table, "--recordings", tmp_path / "x" / "audio", "--no-track", "--out", tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_nothing_decided_yet(tmp_path: Path) -> None:
    table = written(tmp_path)
    (tmp_path / "calls.review" / "journal.jsonl").unlink()
    with pytest.raises(UserError, match="nothing was decided yet"):
        call(table, "--recordings", tmp_path / "audio", "--no-track")
