"""Preparation: recordings of any kind become MeerKAT's form, and nothing of them is lost."""

import csv
import itertools
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_data.annotations import Annotation, AnnotationError
from a2v_data.meerkat import MEERKAT_CLASSES
from a2v_data.pack import PackConfig, pack
from a2v_data.prepare import PrepareConfig, prepare
from a2v_data.scheduling import on_cores
from a2v_data.segmenting import cut_events
from data_bad_audio import GOOD, LONG_NAME, assert_told, make_bad, make_good
from data_prepared import fields_of, files_of, samples_of
from data_sounds import tone
from pydantic import ValidationError

RATE = 8000
SECOND = PrepareConfig(sample_rate=RATE, segment_s=1)
FIELDS = ["start_time_lbl", "end_time_lbl", "start_frame_lbl", "end_frame_lbl", "lbl", "lbl_cat", "foc"]


def noise(seconds: float, rate: int = RATE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(seconds * rate))


def test_the_form(make_source, tmp_path: Path) -> None:
    audio = {"sub/two.wav": noise(2.5), "one.flac": noise(1, seed=1), "three.wav": noise(0.3)}
    rows = ["sub/two.wav,0.25,0.5,cc,1", "sub/two.wav,1.5,2.25,sn,0", "one.flac,0,1,al,0"]
    source = make_source(audio, rows, header="file,onset_s,offset_s,label,focal")
    done = prepare(source, tmp_path / "out", SECOND)
    out = tmp_path / "out"
    names = ["one_s00000.wav", "sub/two_s00000.wav", "sub/two_s00001.wav", "sub/two_s00002.wav", "three_s00000.wav"]
    assert sorted(path.relative_to(out / "wav").as_posix() for path in (out / "wav").rglob("*.wav")) == names
    for name in names:
        info = soundfile.info(out / "wav" / name)
        assert (info.samplerate, info.frames, info.channels, info.subtype) == (RATE, RATE, 1, "PCM_16")
    assert sorted(path.stem for path in (out / "lbl").rglob("*.h5")) == [  # three.wav was not annotated
        "one_s00000", "two_s00000", "two_s00001", "two_s00002",
    ]  # fmt: skip
    labels = fields_of(out, "sub/two_s00000.wav")
    assert sorted(labels) == sorted([*FIELDS, "event_id"])
    assert labels["start_time_lbl"] == [0.25] and labels["end_frame_lbl"] == [4000]
    assert labels["lbl"] == [b"cc"] and labels["lbl_cat"] == [MEERKAT_CLASSES.index("cc")] and labels["foc"] == [1]
    root, *lines = (out / "manifest" / "pretrain.tsv").read_text().splitlines()
    assert root == str(out / "wav") and lines == [f"{name}\t{RATE}" for name in names]
    assert (out / "classes.txt").read_text().split() == list(MEERKAT_CLASSES)
    assert done.kept == 0 and done.prepared.problems == [] and done.prepared.notices == []
    assert done.prepared.meta["events"] == {"labelled": 2, "events": 3, "cut": 1, "classes": ["al", "cc", "sn"]}
    everything = prepare(source, tmp_path / "all", PrepareConfig(sample_rate=RATE, segment_s=1, labelled="all"))
    assert everything.prepared.meta["events"]["labelled"] == 3
    assert fields_of(tmp_path / "all", "three_s00000.wav")["lbl"] == []


def test_segments_are_the_recording_and_the_last_one_is_padded(make_source, tmp_path: Path) -> None:
    """16-bit samples at their own rate come back to the bit, one after another, zeros at the end."""
    samples = np.random.default_rng(0).integers(-32768, 32768, 19_000).astype(np.int16)
    prepare(make_source({"a.wav": samples}, ["a.wav,0,1,x"]), tmp_path / "out", SECOND)
    found = np.concatenate([samples_of(tmp_path / "out", f"a_s{number:05d}.wav") for number in range(3)])
    assert np.array_equal(found, np.concatenate([samples, np.zeros(5000, np.int16)]))


def test_the_recording_is_resampled_as_a_whole(make_source, tmp_path: Path) -> None:
    """A tone goes through the borders: segment by segment, the filter would fade it out at each of them."""
    source = make_source({"a.wav": tone(1000, 3, 44100)}, ["a.wav,0,1,x"], rate=44100)
    prepare(source, tmp_path / "out", SECOND)
    found = np.concatenate([samples_of(tmp_path / "out", f"a_s{number:05d}.wav") for number in range(3)]) / 32768
    assert np.abs(found - tone(1000, 3, RATE))[400:-400].max() < 1e-4


def test_events_are_cut_at_the_borders_and_share_a_number(make_source, tmp_path: Path) -> None:
    rows = ["a.wav,0.5,2.25,x", "a.wav,1,2,y", "a.wav,2.5,2.75,x"]
    prepare(make_source({"a.wav": noise(3)}, rows), tmp_path / "out", SECOND)
    found = [fields_of(tmp_path / "out", f"a_s{number:05d}.wav") for number in range(3)]
    pieces = [list(zip(*(labels[key] for key in ("lbl", *FIELDS[:4], "event_id")), strict=True)) for labels in found]
    assert pieces == [
        [(b"x", 0.5, 1.0, 4000, 8000, 0)],
        [(b"x", 0.0, 1.0, 0, 8000, 0), (b"y", 0.0, 1.0, 0, 8000, 1)],  # y only touches the borders
        [(b"x", 0.0, 0.25, 0, 2000, 0), (b"x", 0.5, 0.75, 4000, 6000, 2)],
    ]


@pytest.mark.parametrize("seed", range(5))
def test_pieces_make_up_their_event(seed: int) -> None:
    """Every piece lies in its segment, and an event's pieces put together are the event, to half a sample."""
    rng = np.random.default_rng(seed)
    onset = rng.uniform(0, 9.9, 60)
    offset = np.minimum(onset + rng.exponential(0.8, 60) + 1e-5, 10.0)
    events = [Annotation("a", float(a), float(b), "x", False, "") for a, b in zip(onset, offset, strict=True)]
    events += [Annotation("a", 1 - 1e-6, 1.5, "x", False, ""), Annotation("a", 0.5, 1 + 1e-6, "x", False, "")]
    events += [Annotation("a", 1 - 1e-6, 1 + 2e-6, "x", False, ""), Annotation("a", 9.99999, 10.0, "x", False, "")]
    pieces = cut_events(events, 14, 6000, RATE)  # segments of 0.75 s
    found: dict[int, list[tuple[float, float]]] = {}
    for index, segment in enumerate(pieces):
        for _, begin, end, _, number in segment:
            assert 0 <= begin < end <= 0.75
            found.setdefault(number, []).append((begin + 0.75 * index, end + 0.75 * index))
    ordered = sorted(events, key=lambda event: (event.onset_s, event.offset_s))
    assert sorted(found) == list(range(len(events)))
    for number, parts in found.items():
        assert all(abs(one[1] - other[0]) < 1e-9 for one, other in itertools.pairwise(parts))
        assert abs(parts[0][0] - ordered[number].onset_s) <= 0.5 / RATE
        assert abs(parts[-1][1] - ordered[number].offset_s) <= 0.5 / RATE


def test_classes_of_other_animals(make_source, tmp_path: Path) -> None:
    """Names longer than MeerKAT's stay whole, and lbl_cat counts the corpus's own list."""
    rows = ["a.wav,0,0.5,Mönchsgrasmücke song", "a.wav,0.5,0.75,cc"]
    prepare(make_source({"a.wav": noise(1)}, rows), tmp_path / "out", SECOND)
    labels = fields_of(tmp_path / "out", "a_s00000.wav")
    assert (tmp_path / "out" / "classes.txt").read_text(encoding="utf-8") == "Mönchsgrasmücke song\ncc\n"
    assert [name.decode() for name in labels["lbl"]] == ["Mönchsgrasmücke song", "cc"] and labels["lbl_cat"] == [0, 1]


def test_names_that_would_be_the_same_or_too_long(make_source, tmp_path: Path) -> None:
    audio = {"a.wav": noise(1), "a.flac": noise(1, seed=1), "A.wav": noise(1, seed=2), LONG_NAME: noise(1, seed=3)}
    done = prepare(make_source(audio, ["a.wav,0,1,x"]), tmp_path / "out", SECOND)
    found = {name: recording.segments[0].name for name, recording in done.prepared.recordings.items()}
    assert len({segment.lower() for segment in found.values()}) == 4
    assert all(len(segment.encode()) < 255 for segment in found.values())
    for name, segment in found.items():
        assert np.abs(samples_of(tmp_path / "out", segment) / 32768 - audio[name]).max() < 1e-4


def test_random_names_hide_the_recording_and_have_a_key(make_source, tmp_path: Path) -> None:
    source = make_source({"monday.wav": noise(2.5), "tuesday.wav": noise(1, seed=1)}, ["monday.wav,0.5,1.5,x"])
    config = {"sample_rate": RATE, "segment_s": 1, "random_names": True}
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        prepare(source, tmp_path / folder, PrepareConfig(**config, seed=seed))
    names = [sorted(path.name for path in (tmp_path / folder / "wav").iterdir()) for folder in "abc"]
    assert names[0] == names[1] and not set(names[0]) & set(names[2]) and len(names[0]) == 4
    assert not any("day" in name for name in names[0])
    with (tmp_path / "a" / "segments.csv").open(newline="") as file:
        key = list(csv.DictReader(file))
    assert sorted(row["segment"] for row in key) == names[0]
    assert [(row["recording"], row["start_s"]) for row in key] == [
        ("monday.wav", "0.000000"), ("monday.wav", "1.000000"), ("monday.wav", "2.000000"), ("tuesday.wav", "0.000000"),
    ]  # fmt: skip
    whole = np.round(noise(2.5) * 32768)
    for row in key[:3]:
        part = whole[int(row["start_sample"]) :][: int(row["samples"])]
        assert np.abs(samples_of(tmp_path / "a", row["segment"])[: len(part)] - part).max() <= 1


def test_channels_from_an_option_and_from_a_table(make_source, tmp_path: Path) -> None:
    stereo = np.stack([tone(300, 1, RATE), tone(700, 1, RATE)], 1)
    source = make_source({"a.wav": stereo, "b.wav": stereo, "c.wav": stereo}, ["a.wav,0,1,x"])
    config = PrepareConfig(sample_rate=RATE, segment_s=1, channel=1, channels={"a.wav": 0, "c.wav": "mix"})
    prepare(source, tmp_path / "out", config)
    for name, expected in (("a", stereo[:, 0]), ("b", stereo[:, 1]), ("c", stereo.mean(1))):
        assert np.abs(samples_of(tmp_path / "out", f"{name}_s00000.wav") / 32768 - expected).max() < 1e-4
    with pytest.raises(ValueError, match=r"channels: no recording 'd\.wav' in"):
        prepare(source, tmp_path / "out2", PrepareConfig(sample_rate=RATE, channels={"d.wav": 0}))


def test_the_sample_rate_is_that_of_the_recordings_where_they_agree(make_source, tmp_path: Path) -> None:
    source = make_source({"a.wav": noise(1, 22050)}, ["a.wav,0,1,x"], rate=22050)
    assert prepare(source, tmp_path / "out", PrepareConfig()).prepared.sample_rate == 22050
    soundfile.write(source / "audio" / "b.wav", noise(1, 8000), 8000)
    with pytest.raises(ValueError, match=r"several \(1 at 8000 Hz, 1 at 22050 Hz\); choose one"):
        prepare(source, tmp_path / "out2", PrepareConfig())


def test_loud_recordings_are_scaled_with_a_notice(make_source, tmp_path: Path) -> None:
    source = make_source({"a.wav": tone(1000, 2, RATE, 4.0)}, ["a.wav,0,1,x"], subtype="FLOAT")
    prepared = prepare(source, tmp_path / "out", SECOND).prepared
    assert prepared.notices == ["a.wav: peak 4 is above full scale (1); scaled down to it"]
    gain = prepared.recordings["a.wav"].gain
    assert gain == pytest.approx(0.25, rel=1e-3)
    found = np.concatenate([samples_of(tmp_path / "out", f"a_s0000{number}.wav") for number in range(2)])
    assert np.abs(found / 32768 / gain - tone(1000, 2, RATE, 4.0)).max() < 2e-4


def test_bad_recordings_are_named_and_their_neighbours_prepared(make_source, tmp_path: Path, monkeypatch) -> None:
    source = make_source({}, ["good.wav,0,0.5,x", "cut.wav,0.1,0.2,x", f"{LONG_NAME},0,1,x"])
    make_good(source / "audio")
    expected = make_bad(source / "audio", monkeypatch)
    prepared = prepare(source, tmp_path / "out", SECOND).prepared
    assert sorted(prepared.recordings) == sorted(GOOD)
    for recording in prepared.recordings.values():
        (segment,) = recording.segments
        assert np.abs(samples_of(tmp_path / "out", segment.name) / 32768 - tone(440, 1, RATE)).max() < 1e-4
    assert len(list((tmp_path / "out" / "wav").rglob("*.wav"))) == len(GOOD)
    assert_told(prepared.problems, expected)


def test_an_annotated_file_that_is_not_named_like_a_recording_is_told(make_source, tmp_path: Path) -> None:
    source = make_source({"a.wav": noise(1), "b.wav": noise(1)}, ["a.wav,0,1,x", "b.dat,0,1,x"])
    (source / "audio" / "b.wav").rename(source / "audio" / "b.dat")
    for problems in (
        prepare(source, tmp_path / "out", SECOND).prepared.problems,
        pack(source, tmp_path / "store", PackConfig()).problems,
    ):
        (problem,) = problems
        assert problem.startswith("'b.dat' has a wrong annotation: annotations.csv, row 3: file 'b.dat'")


def test_no_good_recording_is_an_error(make_source, tmp_path: Path) -> None:
    sound = noise(1)
    sound[10] = np.nan  # found only while it is read
    source = make_source({"a.wav": sound}, ["a.wav,0,1,x"], subtype="FLOAT")
    with pytest.raises(ValueError, match=r"none of 1 recordings can be used; 'a\.wav' holds NaN"):
        prepare(source, tmp_path / "out", SECOND)
    with pytest.raises(ValueError, match="preparation is not finished"):
        pack(tmp_path / "out", tmp_path / "store", PackConfig())


def test_a_wrong_annotation_costs_its_recording_and_an_unreadable_table_everything(make_source, tmp_path: Path) -> None:
    source = make_source({"a.wav": noise(1), "b.wav": noise(1)}, ["a.wav,0.5,1.5,x", "b.wav,0,1,x"])
    prepared = prepare(source, tmp_path / "out", SECOND).prepared
    (problem,) = prepared.problems
    assert "row 2: 0.5 to 1.5 s lies outside a.wav" in problem and list(prepared.recordings) == ["b.wav"]
    (source / "annotations.csv").write_text("file,start,end\na.wav,0,1\n")
    with pytest.raises(AnnotationError, match="row 1"):
        prepare(source, tmp_path / "out2", SECOND)
    assert not (tmp_path / "out2").exists()


def test_where_it_may_not_write(make_source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = make_source({"a.wav": noise(1)}, ["a.wav,0,1,x"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(ValueError, match="mine: exists already; name a new folder"):
        prepare(source, tmp_path / "mine", SECOND)
    with pytest.raises(ValueError, match="lies among the recordings"):
        prepare(source, source / "audio" / "out", SECOND)
    usage = namedtuple("usage", "total used free")(10**9, 10**9 - 5000, 5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match=r"out: needs 0\.01 GB but 0\.00 GB are free; free some space"):
        prepare(source, tmp_path / "out", SECOND)
    monkeypatch.undo()
    prepare(source, tmp_path / "out", SECOND)  # with space it goes on


@pytest.mark.slow
def test_several_processes_write_what_one_writes(make_source, tmp_path: Path) -> None:
    audio = {f"r{number}.wav": noise(0.5 + 0.4 * number, 11025, seed=number) for number in range(6)}
    rows = [f"r{number}.wav,0.1,{0.3 + 0.4 * number:.3f},x" for number in range(6)]
    source = make_source(audio, rows, rate=11025)
    told: list[tuple[int, int]] = []
    prepare(source, tmp_path / "one", SECOND)
    prepare(source, tmp_path / "two", SECOND, lambda *done: told.append(done), on_cores(2))
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")
    assert told[-1] == (9, 9) and told == sorted(told)


def test_configuration() -> None:
    for wrong in ({"segment_s": 0}, {"segment_s": -1}, {"seed": -1}, {"channel": "left"}, {"channels": {"a": -1}}):
        with pytest.raises(ValidationError):
            PrepareConfig(**wrong)
