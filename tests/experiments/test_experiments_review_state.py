"""Reading predictions, the journal of decisions, and the orders in which predictions are shown."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_experiments.basics.errors import UserError
from a2v_experiments.review.calls import Calls, Event, Recorded, item_id, open_calls, unit
from a2v_experiments.review.journal import ConflictError, Decision, open_journal, read_journal
from a2v_experiments.review.order import bands, ordered, sampled_windows, windows


def decision(item: str, verdict: str = "right", kind: str = "event", label: str = "cc") -> Decision:
    return Decision(0, item, kind, verdict, "a.wav", label if kind != "stretch" else "", 1.0, 2.0)


def events(likelihoods: list[float], label: str = "cc", files: int = 1) -> list[Event]:
    return [
        Event(item_id(label, n), f"{n % files}.wav", label, float(n), n + 0.5, value)
        for n, value in enumerate(likelihoods)
    ]


def write_table(folder: Path, rows: list[list[object]]) -> Path:
    (folder / "audio").mkdir(parents=True)
    for name in ("a.wav", "b.wav"):
        soundfile.write(folder / "audio" / name, np.zeros(8000 * 10), 8000)
    path = folder / "calls.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["file", "onset_s", "offset_s", "label", "likelihood"], *rows])
    return path


def test_a_table_with_its_recordings_is_read(tmp_path: Path) -> None:
    table = write_table(tmp_path, [["a.wav", 1, 2, "cc", 0.7], ["b.wav", 3, 4, "sn", 0.2], ["c.wav", 0, 1, "cc", 0.5]])
    with pytest.raises(UserError, match="--recordings"):
        open_calls(table)
    calls = open_calls(table, tmp_path / "audio")
    assert [(event.file, event.label, event.likelihood) for event in calls.events] == [
        ("a.wav", "cc", 0.7),
        ("b.wav", "sn", 0.2),
    ]
    assert calls.folder == tmp_path / "calls.review" and not calls.folder.exists()
    assert calls.recordings["a.wav"].duration_s == 10 and "c.wav" in calls.left_out
    again = open_calls(table, tmp_path / "audio")
    assert [event.id for event in again.events] == [event.id for event in calls.events]


def test_a_decision_counts_until_it_is_taken_back(tmp_path: Path) -> None:
    with open_journal(tmp_path / "review") as journal:
        first = journal.decide(decision("x", "right"))
        second = journal.decide(decision("x", "wrong"), seen=first.n)
        assert journal.state.of("x") == second
        third = journal.decide(decision("x", "undone"), seen=second.n)
        assert journal.state.of("x") == first
        journal.decide(decision("x", "undone"), seen=third.n)
        assert journal.state.of("x") is None
        journal.decide(decision("d", "right", "drawn"))
        journal.decide(decision("d", "removed", "drawn"), seen=5)
        assert journal.state.standing("drawn") == []
    state = read_journal(tmp_path / "review")
    assert state.of("x") is None and [line.n for line in state.lines] == list(range(1, 7))


def test_the_slower_of_two_pages_is_told(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        journal.decide(replace(decision("x", "wrong"), reviewer="Anna"))
        with pytest.raises(ConflictError, match="Anna said 'wrong'"):
            journal.decide(decision("x", "right"), seen=0)
        assert len(journal.state.lines) == 1
        with pytest.raises(ValueError, match="another `a2v review`"), open_journal(tmp_path):
            pass


def test_decisions_that_cannot_be_are_refused(tmp_path: Path) -> None:
    with open_journal(tmp_path) as journal:
        for wrong in (
            decision("x", "seen"),
            replace(decision("x"), offset_s=0.5),
            replace(decision("x"), label=" "),
            replace(decision("x"), onset_s=float("nan")),
        ):
            with pytest.raises(ValueError, match=r"should be|should ascend"):
                journal.decide(wrong)
        assert journal.state.lines == []


def test_kill_loses_no_decision_that_was_answered(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from a2v_experiments.review.journal import Decision, open_journal\n"
        "with open_journal(Path(sys.argv[1])) as journal:\n"
        "    while True:\n"
        "        n = journal.decide(Decision(0, f'i{len(journal.state.lines)}', 'event', 'right', 'a', 'cc', 0, 1)).n\n"
        "        print(n, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    answered = [int(process.stdout.readline()) for _ in range(20)]
    os.kill(process.pid, signal.SIGKILL)
    answered += [int(line) for line in process.stdout.read().split()]
    process.wait()
    with (tmp_path / "journal.jsonl").open("a") as file:
        file.write('{"n": 99, "item": "to')  # the line that it was at
    assert [line.n for line in read_journal(tmp_path).lines][: len(answered)] == answered
    with open_journal(tmp_path) as journal:  # and it goes on
        count = len(journal.state.lines)
        assert journal.decide(decision("later")).n == count + 1
    assert read_journal(tmp_path).of("later") is not None


def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('{"version": 1, "options": {}}\n{"n": 1}\n')
    with pytest.raises(ValueError, match=r"journal\.jsonl: damaged"):
        read_journal(tmp_path)


@pytest.mark.parametrize(
    "change", [{"onset_s": "1"}, {"label": 3}, {"clip": 3}, {"clip": [1]}, {"whole": 1}, {"item": []}, [1], 3]
)
def test_a_wrong_type_in_the_journal_is_told(tmp_path: Path, change: object) -> None:
    with open_journal(tmp_path) as journal:
        journal.decide(replace(decision("a"), clip=(0.5, 2.5)))
    assert read_journal(tmp_path).lines[0].clip == (0.5, 2.5)
    path = tmp_path / "journal.jsonl"
    head, line = path.read_text().splitlines()
    path.write_text(f"{head}\n{json.dumps(json.loads(line) | change if isinstance(change, dict) else change)}\n")
    with pytest.raises(ValueError, match=r"journal\.jsonl: damaged"):
        read_journal(tmp_path)
    with pytest.raises(ValueError, match=r"journal\.jsonl: damaged"), open_journal(tmp_path):
        pass


def test_fixed_random_numbers_are_uniform() -> None:
    values = np.array([unit(f"item{n}") for n in range(20_000)])
    assert abs(values.mean() - 0.5) < 0.01 and np.histogram(values, 10, (0, 1))[0].min() > 1800
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 0.02


def test_only_what_was_decided_up_to_the_first_gap_is_a_sample(tmp_path: Path) -> None:
    all_of_them = events([0.31, 0.32, 0.33, 0.34, 0.81])
    low = sorted(all_of_them[:4], key=lambda event: unit(event.id))
    with open_journal(tmp_path) as journal:
        for event in (low[0], low[1], low[3]):
            journal.decide(decision(event.id))
        found = bands(all_of_them, journal.state)
        assert [(band.low, len(band.events), len(band.sampled)) for band in found] == [(0.3, 4, 2), (0.8, 1, 0)]
        journal.decide(decision(low[2].id))
        assert len(bands(all_of_them, journal.state)[0].sampled) == 4


def test_orders() -> None:
    found = events([0.9, 0.2, 0.55, 0.5, 0.71]) + events([0.3], "sn")
    labels = [event.label for event in ordered(found, "likelihood")]
    assert labels[:2] in (["cc", "sn"], ["sn", "cc"])  # classes take turns
    cc = [event.likelihood for event in ordered(found, "likelihood") if event.label == "cc"]
    assert cc == [0.9, 0.71, 0.55, 0.5, 0.2]
    near = [event.likelihood for event in ordered(found, "uncertain", {"cc": 0.6}) if event.label == "cc"]
    assert near[:3] == [0.55, 0.5, 0.71]
    many = events([0.15] * 50 + [0.95] * 7)
    assert sum(event.likelihood == 0.15 for event in ordered(many, "stratified", per_band=5)) == 5
    assert len(ordered(many, "stratified", per_band=5)) == 10
    assert len(ordered(many, "random")) == 57 and ordered(many, "random") == ordered(many[::-1], "random")
    top = ordered(events([0.9] * 30, files=3), "likelihood")[:6]
    assert {event.file for event in top} == {"0.wav", "1.wav", "2.wav"}
    with pytest.raises(ValueError, match="should be likelihood"):
        ordered(found, "loud")


def test_windows_cover_the_gaps_between_predictions(tmp_path: Path) -> None:
    recorded = {name: Recorded(name, Path(name), 25.0, 8000, 1) for name in ("a", "b")}
    shown = [Event(item_id(n), "a", "cc", onset, onset + 1, 0.5) for n, onset in enumerate((4.0, 5.5))]
    calls = Calls(tmp_path, tmp_path, tuple(shown), recorded, ("cc",))
    found, lost_s = windows(calls)
    assert lost_s == pytest.approx(0.5)  # from 5 to 5.5
    assert sum(one.stop_s - one.start_s for one in found) == pytest.approx(50 - 2 - 0.5)
    assert all(1 <= one.stop_s - one.start_s <= 10 for one in found)
    assert not any(one.file == "a" and one.start_s < 6.5 and one.stop_s > 4 for one in found)
    with open_journal(tmp_path / "r") as journal:
        for one in (found[0], found[2]):
            journal.decide(decision(one.id, "seen", "stretch"))
        assert sampled_windows(found, journal.state) == found[:1]


def test_a_folder_of_predict_names_its_recordings_and_thresholds(tmp_path: Path) -> None:
    table = write_table(tmp_path / "x", [["a.wav", 1, 2, "cc", 0.7]])
    out = tmp_path / "calls"
    out.mkdir()
    table.rename(out / "events.csv")
    audio = tmp_path / "x" / "audio"
    rows = [f"{name},10.0,8000,1,{audio / name}" for name in ("a.wav", "b.wav")]
    (out / "recordings.csv").write_text("\n".join(["file,duration_s,sample_rate,channels,path", *rows, ""]))
    about = {"model": "m@1", "options": {"channel": "0", "events": {"threshold": {"cc": 0.4}}}, "events": {"sn": 0}}
    (out / "predict.json").write_text(json.dumps(about))
    calls = open_calls(out)
    assert calls.thresholds == {"cc": 0.4} and calls.classes == ("cc", "sn") and calls.model == "m@1"
    assert calls.folder == out / "review"
    for wrong in ("1e300,8000,1", "inf,8000,1", "nan,8000,1", "-5,8000,1", "10,0,1", "10,8000,0"):
        (out / "recordings.csv").write_text(f"file,duration_s,sample_rate,channels,path\na.wav,{wrong},{audio}/a.wav\n")
        with pytest.raises(UserError, match=r"recordings.csv: is not readable \(a.wav has "):
            open_calls(out)
    (out / "recordings.csv").write_text("\n".join(["file,duration_s,sample_rate,channels,path", *rows, ""]))
    for odd in ("\u00b2", "9" * 5000):
        (out / "predict.json").write_text(json.dumps(about | {"options": about["options"] | {"channel": odd}}))
        assert open_calls(out).classes == ("cc", "sn")
    (audio / "a.wav").unlink()
    with pytest.raises(UserError, match="--recordings"):
        open_calls(out)


def test_a_disk_that_is_full_leaves_no_half_of_a_decision(tmp_path: Path) -> None:
    script = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from a2v_experiments.review.journal import Decision, open_journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "def one(item): return Decision(0, item, 'event', 'right', 'a', 'cc', 0, 1)\n"
        "with open_journal(Path(sys.argv[1])) as journal:\n"
        "    journal.decide(one('first'))\n"
        "    size = (Path(sys.argv[1]) / 'journal.jsonl').stat().st_size\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, resource.RLIM_INFINITY))\n"
        "    for _ in range(2):\n"
        "        try: journal.decide(one('refused'))\n"
        "        except OSError: print('refused')\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))\n"
        "    journal.decide(one('last'))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused", "refused"]
    assert [(line.n, line.item) for line in read_journal(tmp_path).lines] == [(1, "first"), (2, "last")]
