"""An interrupted preparation goes on, a changed source is noticed, and what is finished is left alone."""

import fcntl
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from a2v_data import prepare as prepare_module
from a2v_data.pack import PackConfig, pack
from a2v_data.prepare import Preparation, PrepareConfig, prepare
from a2v_data.scheduling import in_this_process
from data_prepared import fields_of, files_of, samples_of, times_of

RATE = 8000
SECOND = PrepareConfig(sample_rate=RATE, segment_s=1)
SECONDS = {"a.wav": 2.5, "b.wav": 1.5, "c.wav": 1.0}


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * RATE))


@pytest.fixture
def source(make_source) -> Path:
    audio = {name: noise(seconds, seed) for seed, (name, seconds) in enumerate(SECONDS.items())}
    return make_source(audio, ["a.wav,0.5,1.5,x", "b.wav,0.1,0.2,y"])


def interrupted_after(count: int):
    """A run that is stopped, as by Ctrl-C, when so many recordings are done."""

    def run(work, tasks, advance):
        for position, result in in_this_process(work, tasks, advance):
            if position == count:
                raise KeyboardInterrupt
            yield position, result

    return run


def counted(done: list[str]):
    """A run that notes which recordings are worked on, with a star where audio is read."""

    def run(work, tasks, advance):
        done.extend(task.recording.name + "*" * task.audio for task in tasks)
        yield from in_this_process(work, tasks, advance)

    return run


def again(source: Path, out: Path, config: PrepareConfig = SECOND) -> tuple[Preparation, list[str]]:
    done: list[str] = []
    return prepare(source, out, config, None, counted(done)), done


@pytest.mark.parametrize("count", [0, 1, 2])
def test_an_interrupted_call_goes_on(source: Path, tmp_path: Path, count: int) -> None:
    prepare(source, tmp_path / "whole", SECOND)
    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "out", SECOND, None, interrupted_after(count))
    with pytest.raises(ValueError, match="not finished; run the same `a2v data prepare` again"):
        pack(tmp_path / "out", tmp_path / "store", PackConfig())
    before = times_of(tmp_path / "out")
    finished, done = again(source, tmp_path / "out")
    assert finished.kept == count and len(done) == 3 - count  # one that was not written down is done again
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")
    kept = {name: stamp for name, stamp in before.items() if not any(name[4] == one[0] for one in done)}
    assert kept.items() <= times_of(tmp_path / "out").items()
    assert not (tmp_path / "out" / ".work").exists()


def test_a_finished_folder_is_left_alone(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", SECOND)
    before, files = times_of(tmp_path / "out"), files_of(tmp_path / "out")
    finished, done = again(source, tmp_path / "out")
    assert finished.kept == 3 and done == []
    assert times_of(tmp_path / "out") == before and files_of(tmp_path / "out") == files


def test_a_line_that_was_half_written_is_ignored(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "whole", SECOND)
    for cut in (1, 20, 60):
        with pytest.raises(KeyboardInterrupt):
            prepare(source, tmp_path / "out", SECOND, None, interrupted_after(2))
        journal = tmp_path / "out" / ".prepare.jsonl"
        journal.write_bytes(journal.read_bytes()[:-cut])
        finished, _ = again(source, tmp_path / "out")
        assert finished.kept == 1 and files_of(tmp_path / "out") == files_of(tmp_path / "whole")
        assert len(journal.read_text().splitlines()) == 4  # options and three recordings
        shutil.rmtree(tmp_path / "out")


def test_a_damaged_journal_is_told(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", SECOND)
    journal = tmp_path / "out" / ".prepare.jsonl"
    journal.write_text("{\n" + journal.read_text())
    with pytest.raises(ValueError, match=r"\.prepare\.jsonl: damaged .* name a new folder"):
        prepare(source, tmp_path / "out", SECOND)


@pytest.mark.parametrize(
    "line, change",
    [
        (0, {"options": [1]}), (0, {"options": None}), (1, {"segments": "3"}), (1, {"segments": True}),
        (1, {"name": ["a"]}), (1, {"peak": None}), (1, {"stamp": 3}), (1, {"more": 1}), (1, 3), (1, [1]),
    ],
)  # fmt: skip
def test_a_wrong_type_in_the_journal_is_told(source: Path, tmp_path: Path, line: int, change: Any) -> None:
    prepare(source, tmp_path / "out", SECOND)
    journal = tmp_path / "out" / ".prepare.jsonl"
    lines = [json.loads(one) for one in journal.read_text().splitlines()]
    lines[line] = lines[line] | change if isinstance(change, dict) else change
    journal.write_text("".join(json.dumps(one) + "\n" for one in lines))
    with pytest.raises(ValueError, match=r"\.prepare\.jsonl: damaged .* name a new folder"):
        prepare(source, tmp_path / "out", SECOND)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000, '{"name": '])
def test_a_line_that_is_no_json_is_told(source: Path, tmp_path: Path, text: str) -> None:
    prepare(source, tmp_path / "out", SECOND)
    with (tmp_path / "out" / ".prepare.jsonl").open("a") as file:
        file.write(text + "\n")
    with pytest.raises(ValueError, match=r"\.prepare\.jsonl: damaged .* name a new folder"):
        prepare(source, tmp_path / "out", SECOND)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sample_rate": 4000}, "sample_rate 8000, now 4000"),
        ({"segment_s": 2.0}, r"segment_s 1\.0, now 2\.0"),
        ({"random_names": True}, "random_names False, now True"),
    ],
)
def test_other_options_are_refused(source: Path, tmp_path: Path, options: dict, said: str) -> None:
    prepare(source, tmp_path / "out", SECOND)
    files = files_of(tmp_path / "out")
    with pytest.raises(ValueError, match=f"out: was begun with .*{said}"):
        prepare(source, tmp_path / "out", SECOND.model_copy(update=options))
    assert files_of(tmp_path / "out") == files


def test_a_changed_recording_is_done_again(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", SECOND)
    shorter = noise(1.75, seed=9)
    soundfile.write(source / "audio" / "a.wav", shorter, RATE)
    finished, done = again(source, tmp_path / "out")
    assert done == ["a.wav*"] and finished.kept == 2
    assert finished.prepared.notices == ["a.wav: its file or channel changed since it was prepared; done again"]
    assert [segment.samples for segment in finished.prepared.recordings["a.wav"].segments] == [8000, 6000]
    assert np.abs(samples_of(tmp_path / "out", "a_s00001.wav")[:6000] / 32768 - shorter[8000:]).max() < 1e-4
    assert not (tmp_path / "out" / "wav" / "a_s00002.wav").exists()
    assert not (tmp_path / "out" / "lbl" / "a_s00002.h5").exists()


def test_another_channel_is_noticed(make_source, tmp_path: Path) -> None:
    audio = {name: np.stack([noise(1, 1), noise(1, 2)], 1) for name in ("a.wav", "b.wav")}
    source = make_source(audio, ["a.wav,0,1,x"])
    prepare(source, tmp_path / "out", SECOND)
    _, done = again(source, tmp_path / "out", SECOND.model_copy(update={"channels": {"b.wav": 1}}))
    assert done == ["b.wav*"]
    assert np.abs(samples_of(tmp_path / "out", "b_s00000.wav") / 32768 - noise(1, 2)).max() < 1e-4


def test_changed_annotations_write_labels_and_no_audio(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", SECOND)
    before = times_of(tmp_path / "out")
    table = source / "annotations.csv"
    table.write_text(table.read_text().replace("b.wav,0.1,0.2,y", "b.wav,0.1,0.3,y\nb.wav,0.5,0.6,x"))
    finished, done = again(source, tmp_path / "out")
    assert done == ["b.wav"] and finished.kept == 3
    assert fields_of(tmp_path / "out", "b_s00000.wav")["end_frame_lbl"] == [2400, 4800]
    after = times_of(tmp_path / "out")
    assert all(after[name] == stamp for name, stamp in before.items() if name.endswith(".wav"))
    table.write_text("file,onset_s,offset_s,label\nb.wav,0.1,0.3,z\n")  # other classes, and a is not labelled any more
    _, done = again(source, tmp_path / "out")
    assert sorted(done) == ["a.wav", "b.wav"]
    assert sorted(path.name for path in (tmp_path / "out" / "lbl").iterdir()) == ["b_s00000.h5", "b_s00001.h5"]
    assert (tmp_path / "out" / "classes.txt").read_text() == "z\n"


def test_new_recordings_are_added(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", SECOND)
    soundfile.write(source / "audio" / "d.wav", noise(1, 7), RATE)
    finished, done = again(source, tmp_path / "out")
    assert done == ["d.wav*"] and sorted(finished.prepared.recordings) == [*SECONDS, "d.wav"]


def test_a_bad_recording_that_is_replaced_is_done_and_the_others_are_not(source: Path, tmp_path: Path) -> None:
    good = (source / "audio" / "b.wav").read_bytes()
    (source / "audio" / "b.wav").write_bytes(good[:5000])
    first = prepare(source, tmp_path / "out", SECOND)
    assert len(first.prepared.problems) == 1 and sorted(first.prepared.recordings) == ["a.wav", "c.wav"]
    (source / "audio" / "b.wav").write_bytes(good)
    finished, done = again(source, tmp_path / "out")
    assert done == ["b.wav*"] and finished.prepared.problems == [] and finished.kept == 2


def test_a_good_recording_that_went_bad_is_taken_out(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", SECOND)
    path = source / "audio" / "b.wav"
    path.write_bytes(path.read_bytes()[:5000])
    finished, done = again(source, tmp_path / "out")
    assert done == [] and sorted(finished.prepared.recordings) == ["a.wav", "c.wav"]
    assert not [path for path in (tmp_path / "out").rglob("b_*")]
    assert "b.wav" in finished.prepared.problems[0]


def test_a_recording_that_is_gone_is_told_and_nothing_is_removed(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", SECOND)
    files = files_of(tmp_path / "out")
    (source / "audio" / "c.wav").unlink()
    with pytest.raises(ValueError, match=r"holds 1 recording\(s\) that .* no longer has \(first: c\.wav\)"):
        prepare(source, tmp_path / "out", SECOND)
    assert files_of(tmp_path / "out") == files


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"")])
def test_segments_that_were_lost_are_made_again(source: Path, tmp_path: Path, damage) -> None:
    prepare(source, tmp_path / "out", SECOND)
    files = files_of(tmp_path / "out")
    damage(tmp_path / "out" / "wav" / "a_s00001.wav")
    finished, done = again(source, tmp_path / "out")
    assert done == ["a.wav*"]
    assert finished.prepared.notices == ["a.wav: segments were missing or cut short; done again"]
    (tmp_path / "out" / "lbl" / "b_s00000.h5").unlink()
    finished, done = again(source, tmp_path / "out")
    assert done == ["b.wav"] and files_of(tmp_path / "out") == files


def test_two_calls_do_not_write_into_one_folder(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", SECOND)
    with (tmp_path / "out" / ".prepare.jsonl").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match="another `a2v data prepare` is writing there"):
            prepare(source, tmp_path / "out", SECOND)
    prepare(source, tmp_path / "out", SECOND)


def test_a_full_disk_leaves_what_is_done_and_a_later_call_goes_on(source: Path, tmp_path: Path, monkeypatch) -> None:
    replace, moved = os.replace, []

    def full(one, other) -> None:
        moved.append(other)
        if len(moved) == 8:  # a has three segments and three label files; in the middle of b
            raise OSError(28, "No space left on device", str(other))
        replace(one, other)

    prepare(source, tmp_path / "whole", SECOND)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        prepare(source, tmp_path / "out", SECOND)
    monkeypatch.undo()
    finished, done = again(source, tmp_path / "out")
    assert finished.kept == 1 and done == ["b.wav*", "c.wav*"]
    assert files_of(tmp_path / "out") == files_of(tmp_path / "whole")


@pytest.mark.parametrize("when", ["before", "while"])
def test_a_recording_that_is_deleted_during_the_call_is_called_gone(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Before its state is noted, and when it is read."""

    def delete(work, tasks, advance):
        if when == "while":
            (source / "audio" / "b.wav").unlink()
        yield from in_this_process(work, tasks, advance)

    if when == "before":
        planned = prepare_module.make_plan

        def plan(*given):
            made = planned(*given)
            (source / "audio" / "b.wav").unlink()
            return made

        monkeypatch.setattr(prepare_module, "make_plan", plan)
    made = prepare(source, tmp_path / "out", SECOND, run=delete)
    (problem,) = made.prepared.problems
    assert problem.startswith("'b.wav' is gone: it was there before") and "damaged" not in problem
    assert sorted(made.prepared.recordings) == ["a.wav", "c.wav"]
