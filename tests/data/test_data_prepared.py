"""A prepared folder is read back as the recordings that it was cut from."""

import csv
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from a2v_data.annotations import AnnotationError
from a2v_data.corpus import Corpus
from a2v_data.meerkat import read_label_file
from a2v_data.pack import PackConfig, pack
from a2v_data.prepare import PrepareConfig, prepare
from a2v_data.sources import open_source, source_fingerprint
from data_prepared import assert_same, events_of
from data_sounds import tone

RATE = 8000
HEADER = "file,onset_s,offset_s,label,focal"


@pytest.fixture
def source(make_source) -> Path:
    """Stereo at 44.1 kHz, 24 bit: one that is quiet, one that is loud, one without labels; events in every position."""
    rng = np.random.default_rng(0)
    seconds = {"one.wav": 7.3, "two.flac": 3.0, "three.wav": 0.4}
    audio = {
        name: rng.normal(0, 0.005 if name == "two.flac" else 0.1, (round(length * 44100), 2))
        for name, length in seconds.items()
    }
    rows = [
        "one.wav,0.123456789,0.4,cc,1",
        "one.wav,0.9,3.333333333,sn,0",  # over three borders
        "one.wav,1.5,2.0,cc,0",  # ends on a border, and the next one begins there: two events
        "one.wav,2.0,2.5,cc,0",
        "one.wav,3.99999,4.2,al,1",  # less than a sample before the border
        "one.wav,4.9,5.1,cc,1",
        "one.wav,4.95,5.3,cc,0",  # overlaps it, over the same border
        "one.wav,7.0,7.3,mo,0",
        "two.flac,0,3,sn,0",
    ]
    return make_source(audio, rows, rate=44100, header=HEADER, subtype="PCM_24")


def store(source: Path, out: Path, **options: object) -> Corpus:
    return pack(source, out, PackConfig.model_validate(options))


@pytest.mark.parametrize("options", [{}, {"random_names": True}, {"segment_s": 0.9973}, {"labelled": "all"}])
def test_raw_to_prepared_to_packed_is_raw_to_packed(source: Path, tmp_path: Path, options: dict) -> None:
    config = {"sample_rate": RATE, "segment_s": 1, "channel": 1, **options}
    prepared = prepare(source, tmp_path / "out", PrepareConfig.model_validate(config)).prepared
    assert prepared.recordings["two.flac"].gain == 64
    through = store(tmp_path / "out", tmp_path / "through")
    labelled = options.get("labelled", "annotated")
    direct = store(source, tmp_path / "direct", sample_rate=RATE, channel=1, labelled=labelled)
    assert_same(through, direct)
    assert [recording.source_rate for recording in through.recordings] == [44100] * 3
    assert through.meta["source"]["audio_folder"] == str(source / "audio")
    cc = [event for event in events_of(through, "one.wav") if event[0] == "cc"]
    assert [tuple(np.round(event[1:], 9)) for event in cc] == [
        (0.123456789, 0.4), (1.5, 2.0), (2.0, 2.5), (4.9, 5.3),
    ]  # fmt: skip


def test_packing_at_another_rate_resamples_the_joined_recording(source: Path, tmp_path: Path) -> None:
    """No trace of the borders: the same as resampling in one go, to what int16 rounds in between."""
    prepare(source, tmp_path / "out", PrepareConfig(sample_rate=16000, segment_s=0.5))
    through = store(tmp_path / "out", tmp_path / "through", sample_rate=RATE)
    direct = store(source, tmp_path / "direct", sample_rate=RATE)
    for one, other in zip(through.recordings, direct.recordings, strict=True):
        assert one.n_samples == other.n_samples
        a, b = (c.audio[r.offset :][: r.n_samples] / r.gain for c, r in ((through, one), (direct, other)))
        inner = slice(200, -200)  # both filters' reach beyond the recording's ends
        assert np.abs(a - b)[inner].max() / np.abs(b).max() < 3e-3


def test_without_its_tables_it_is_a_folder_like_meerkats(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", PrepareConfig(sample_rate=RATE, segment_s=1))
    for name in ("prepare.json", "segments.csv", "recordings.csv", ".prepare.jsonl"):
        (tmp_path / "out" / name).unlink()
    corpus = store(tmp_path / "out", tmp_path / "store")
    assert len(corpus.recordings) == 8 + 3 + 1 and {recording.n_samples for recording in corpus.recordings} == {RATE}
    assert ("sn", 0.0, 1.0) in events_of(corpus, "one_s00001.wav")
    assert events_of(corpus, "two_s00002.wav") == [("sn", 0.0, 1.0)]


def test_preparing_a_prepared_folder_again_at_another_length(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "a", PrepareConfig(sample_rate=RATE, segment_s=1))
    prepare(tmp_path / "a", tmp_path / "b", PrepareConfig(segment_s=2.5))
    assert_same(store(tmp_path / "b", tmp_path / "through"), store(source, tmp_path / "direct", sample_rate=RATE))


def test_bad_segments_leave_out_their_recording(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", PrepareConfig(sample_rate=RATE, segment_s=1))
    wav = tmp_path / "out" / "wav"
    (wav / "two_s00001.wav").unlink()
    (wav / "three_s00000.wav").write_bytes((wav / "three_s00000.wav").read_bytes()[:999])
    corpus = store(tmp_path / "out", tmp_path / "store")
    assert [recording.name for recording in corpus.recordings] == ["one.wav"]
    lines = dict(zip(("three.wav", "two.flac"), corpus.problems, strict=True))
    assert lines["three.wav"].startswith("'three.wav' three_s00000.wav: is truncated: 999 of 16044 bytes")
    assert "two_s00001.wav: is gone" in lines["two.flac"]
    assert lines["two.flac"].endswith("(left out, with its 1 annotations)")


def edit(path: Path, **fields: object) -> None:
    with h5py.File(path, "a") as file:
        for name, value in fields.items():
            file[name][...] = value


def test_corrected_labels_hold(source: Path, tmp_path: Path) -> None:
    """Times are those of the label files: a piece that was moved away from the border is an event of its own."""
    prepare(source, tmp_path / "out", PrepareConfig(sample_rate=RATE, segment_s=1))
    edit(tmp_path / "out" / "lbl" / "two_s00002.h5", end_time_lbl=0.5)
    assert events_of(store(tmp_path / "out", tmp_path / "a"), "two.flac") == [("sn", 0.0, 2.5)]
    edit(tmp_path / "out" / "lbl" / "two_s00002.h5", start_time_lbl=0.25)
    assert events_of(store(tmp_path / "out", tmp_path / "b"), "two.flac") == [("sn", 0.0, 2.0), ("sn", 2.25, 2.5)]


def test_labels_that_do_not_fit_together_are_named(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", PrepareConfig(sample_rate=RATE, segment_s=1))
    labels = tmp_path / "out" / "lbl"
    edit(labels / "two_s00001.h5", lbl=b"cc")
    (labels / "one_s00003.h5").rename(labels / "nine.h5")
    with pytest.raises(AnnotationError) as caught:
        store(tmp_path / "out", tmp_path / "store")
    assert caught.value.problems == [
        "lbl: one_s00003.wav has no labels, but other segments of one.wav have; add or remove them",
        "lbl/two_s00001.h5, event 1: goes on from lbl/two_s00000.h5, event 1, but differs in label or focal",
        "lbl/nine.h5: no segment of this name in segments.csv; remove the labels",
    ]


def test_class_numbers_count_the_folders_own_classes(make_source, tmp_path: Path) -> None:
    source = make_source({"a.wav": tone(440, 1, RATE)}, ["a.wav,0,0.5,buzz", "a.wav,0.5,1,trill"])
    prepare(source, tmp_path / "out", PrepareConfig(segment_s=1))
    path = tmp_path / "out" / "lbl" / "a_s00000.h5"
    with h5py.File(path, "a") as file:
        assert file["lbl_cat"][()].tolist() == [0, 1]
        del file["lbl"]
    labels = read_label_file(path, "a.wav", "a.h5", ("buzz", "trill"))
    assert [event.label for event in labels.events] == ["buzz", "trill"] and labels.event_ids == [0, 1]
    assert events_of(store(tmp_path / "out", tmp_path / "store"), "a.wav") == [("buzz", 0.0, 0.5), ("trill", 0.5, 1.0)]
    assert read_label_file(path, "a.wav", "a.h5", ("buzz",)).problems == [
        "a.h5: not readable as HDF5 labels (class number outside 0 to 0); export it again"
    ]


def test_wrong_tables_are_one_line(source: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "out", PrepareConfig(sample_rate=RATE, segment_s=1))
    path = tmp_path / "out" / "segments.csv"
    text = path.read_text()
    rows = list(csv.reader(text.splitlines()))
    without_one, without_last = ("\n".join(map(",".join, part)) for part in (rows[:3] + rows[4:], rows[:-1]))
    cases = {
        without_one: r"segments\.csv, row 4: segments of one\.wav are missing",
        without_last: r"recordings\.csv, row 4: two\.flac has 3 segments, .* names 2",
        text.replace("start_sample", "first"): r"segments\.csv, row 1: no column start_sample",
        text.replace(",8000,", ",soon,"): "start_sample of one.wav is 'soon'",
    }
    for changed, said in cases.items():
        path.write_text(changed)
        with pytest.raises(ValueError, match=said) as caught:
            store(tmp_path / "out", tmp_path / "store")
        assert "\n" not in str(caught.value)
    path.write_text(text)
    meta = tmp_path / "out" / "prepare.json"
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "format_version": 9}))
    with pytest.raises(ValueError, match="format version 9, this a2v reads 1"):
        store(tmp_path / "out", tmp_path / "store")


def test_the_tables_are_part_of_the_fingerprint(source: Path, tmp_path: Path) -> None:
    """Two folders with the same segments in other recordings are other sources."""
    prepare(source, tmp_path / "out", PrepareConfig(sample_rate=RATE, segment_s=1))
    before = source_fingerprint(tmp_path / "out")
    path = tmp_path / "out" / "segments.csv"
    path.write_text(path.read_text().replace("two.flac", "zwei.flac"))
    assert source_fingerprint(tmp_path / "out") != before
    assert open_source(tmp_path / "out").form == "meerkat"
