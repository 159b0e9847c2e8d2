"""Regions, calls of an unknown class, time to be ignored: what is known of a recording, from tables to targets."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotations import Annotation, AnnotationError
from a2v_data.augment import AugmentConfig, Augmenter, PasteConfig
from a2v_data.corpus import Corpus
from a2v_data.folds import label_share, make_folds
from a2v_data.intervals import IGNORED, UNKNOWN, without
from a2v_data.listing import labelled_times, open_listing
from a2v_data.meerkat import write_labels
from a2v_data.pack import PackConfig, pack
from a2v_data.prepare import PrepareConfig, prepare
from a2v_data.preview import open_piece
from a2v_data.recording_names import RecordingNames
from a2v_data.regions import WHOLE, read_regions, region_csv, sure
from a2v_data.sampling import SamplingConfig, draw_segments
from a2v_data.stats import corpus_statistics
from a2v_data.training_part import TrainingPart
from data_sounds import tone

RATE = 1000
EVENTS = [
    ("a.wav", 1.0, 1.5, "wren"), ("a.wav", 3.9, 4.3, "wren"), ("a.wav", 6.0, 6.5, "wren"), ("a.wav", 7.8, 8.1, "robin"),
    ("b.wav", 2.0, 2.5, "robin"), ("b.wav", 5.0, 5.5, "wren"), ("c.wav", 1.0, 1.5, "robin"),
]  # fmt: skip


def source(folder: Path, regions: str | None = None, events=EVENTS, mapping: str | None = None) -> Path:
    """Recordings a, b, c of 10 s."""
    folder.mkdir()
    for name in "abc":
        soundfile.write(folder / f"{name}.wav", tone(100, 10, RATE), RATE, subtype="PCM_16")
    rows = "".join(f"{file},{onset},{offset},{label}\n" for file, onset, offset, label in events)
    (folder / "annotations.csv").write_text(f"file,onset_s,offset_s,label\n{rows}")
    if regions is not None:
        (folder / "regions.csv").write_text(f"file,onset_s,offset_s\n{regions}")
    if mapping is not None:
        (folder / "mapping.csv").write_text(f"label,class\n{mapping}")
    return folder


def packed(folder: Path, **annotations: object) -> Corpus:
    config = PackConfig(sample_rate=RATE, annotations=AnnotationConfig.model_validate(annotations))
    return pack(folder, folder.parent / f"{folder.name}-packed", config, strict=True)


def listed(corpus: Corpus, table: np.ndarray) -> list[tuple[str, int, float, float]]:
    return [
        (corpus.recordings[number].name, class_, round(onset_s, 6), round(offset_s, 6))
        for number, class_, onset_s, offset_s in table.tolist()
    ]


REGIONS = "a.wav,0,4\na.wav,7,8\nb.wav,,\n"


def test_an_event_belongs_where_its_middle_lies(tmp_path):
    """That at 3.9 s reaches into the region by a quarter: its frames there are not known. That at 7.8 s reaches out of
    it by a third: it is whole."""
    corpus = packed(source(tmp_path / "s", REGIONS))
    robin, wren = 0, 1
    assert corpus.classes == ("robin", "wren")
    assert listed(corpus, corpus.events) == [
        ("a.wav", wren, 1.0, 1.5), ("a.wav", robin, 7.8, 8.1), ("b.wav", robin, 2.0, 2.5), ("b.wav", wren, 5.0, 5.5),
    ]  # fmt: skip
    assert listed(corpus, corpus.unsure) == [("a.wav", IGNORED, 3.9, 7.0), ("a.wav", IGNORED, 8.1, 10.0)]
    assert [one.labelled for one in corpus.recordings] == [True, True, False]
    assert labelled_times(corpus).tolist() == pytest.approx([3.9 + 1.1, 10, 0])
    told = "\n".join(corpus.notices)
    assert "regions: 0.2 of 0.5 min were annotated, in 2 of 3 recordings" in told
    assert "1 annotated recording(s) have none, so they count as not annotated (c.wav)" in told
    assert "not used: 3 (1 robin, 2 wren)" in told


def test_statistics_are_of_the_annotated_time(tmp_path):
    found = corpus_statistics(open_listing(source(tmp_path / "s", REGIONS)))
    assert found["labelled_hours"] == pytest.approx(15 / 3600)
    assert found["unlabelled_parts_hours"] == pytest.approx(5 / 3600)
    assert found["share_any"] == pytest.approx((0.5 + 0.3 + 0.5 + 0.5) / 15)


def test_a_label_may_mark_regions(tmp_path):
    marks = [("a.wav", 0.0, 4.0, "annotated"), ("a.wav", 7.0, 8.0, "annotated"), ("b.wav", 0.0, 10.0, "annotated")]
    by_label = packed(source(tmp_path / "l", events=EVENTS + marks), region_label="annotated")
    by_table = packed(source(tmp_path / "t", REGIONS))
    assert by_label.classes == by_table.classes
    for name in ("events", "unsure"):
        np.testing.assert_array_equal(getattr(by_label, name), getattr(by_table, name))
    with pytest.raises(AnnotationError, match="region_label: no event is labelled 'anotated'"):
        packed(source(tmp_path / "w", events=EVENTS + marks), region_label="anotated")


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("d.wav,0,1", "regions.csv, row 2: file 'd.wav' is no recording"),
        ("a.wav,4,3", "regions.csv, row 2: 4 to 3 s is no region"),
        ("a.wav,x,3", "regions.csv, row 2: onset_s is 'x'"),
        ("a.wav,11,12", "a.wav: region 11 to 12 s begins after the end of the recording, which is 10.000 s long"),
        ("a.wav,1", "regions.csv, row 2: 2 fields, the header has 3"),
    ],
)
def test_a_wrong_region_is_one_line(tmp_path, row, told):
    with pytest.raises(AnnotationError, match=told):
        packed(source(tmp_path / "s", f"{row}\n"))


def test_unknown_and_ignored_classes(tmp_path):
    mapping = "wren,wren\nrobin,?\nnoise,ignore\n"
    events = [*EVENTS, ("b.wav", 4.8, 5.3, "noise"), ("b.wav", 8.0, 9.0, "noise")]
    corpus = packed(source(tmp_path / "s", events=events, mapping=mapping), mapping="mapping.csv")
    assert corpus.classes == ("wren",)
    assert listed(corpus, corpus.unsure) == [
        ("a.wav", UNKNOWN, 7.8, 8.1),
        ("b.wav", UNKNOWN, 2.0, 2.5),
        ("b.wav", IGNORED, 4.8, 5.5),  # with the wren, whose middle is ignored
        ("b.wav", IGNORED, 8.0, 9.0),
        ("c.wav", UNKNOWN, 1.0, 1.5),
    ]
    assert all(one.labelled for one in corpus.recordings)


def test_targets_are_not_known_where_nobody_knows(tmp_path):
    mapping = "wren,wren\nrobin,?\nshrew,shrew\n"
    events = [("a.wav", 1.0, 2.0, "robin"), ("a.wav", 1.5, 3.0, "wren"), ("b.wav", 1.0, 2.0, "shrew")]
    corpus = packed(source(tmp_path / "s", "a.wav,0,4.25\nb.wav,,\n", events, mapping), mapping="mapping.csv")
    segment = corpus.segments(10, recordings=[0])
    target_TC = corpus.targets(segment, 10, 100)[0]
    shrew, wren = target_TC.T
    nan = np.nan
    np.testing.assert_array_equal(wren[:45], [*[0] * 10, *[nan] * 5, *[1] * 15, *[0] * 12, *[nan] * 3])
    np.testing.assert_array_equal(shrew[:45], [*[0] * 10, *[nan] * 10, *[0] * 22, *[nan] * 3])
    assert np.isnan(target_TC[42:]).all()


@pytest.mark.parametrize("seed", range(5))
def test_training_hears_what_was_annotated(tmp_path, seed):
    """Every drawn segment holds annotated time, no silence is taken from elsewhere; pasting leaves the unknown so."""
    corpus = packed(source(tmp_path / "s", REGIONS))
    part, rng = TrainingPart(corpus, [0, 1]), np.random.default_rng(seed)
    annotated = [[(0, 4000), (7000, 8100)], [(0, 10000)]]
    segments = draw_segments(part, 500, 10, 200, SamplingConfig(event_share=0.3), rng)
    for segment in segments:
        start = int(segment["start"])
        assert any(start < end and start + 500 > begin for begin, end in annotated[segment["recording"]])
    counts = np.bincount(segments["recording"], minlength=2)
    assert counts.min() > 40  # b.wav holds two thirds of the annotated time
    for recording, start, end in zip(part.gaps.recording, part.gaps.start, part.gaps.end, strict=True):
        assert any(
            begin <= start and end <= stop for begin, stop in [[(0, 3900), (7000, 8100)], [(0, 10000)]][recording]
        )
    outside = corpus.segments(1, recordings=[0])[4:6]
    waveform_BN, lengths_B = corpus.waveforms(outside, 1000)
    target_BTC = corpus.targets(outside, 10, 10)
    assert np.isnan(target_BTC).all()
    pasted_BTC = Augmenter(part, 100, AugmentConfig(paste=PasteConfig(probability=1)))(
        waveform_BN, lengths_B, target_BTC, rng
    )[1]
    assert set(np.unique(pasted_BTC[~np.isnan(pasted_BTC)])) <= {1.0} and np.isnan(pasted_BTC).any()


def test_an_epoch_leaves_out_what_nobody_annotated(tmp_path):
    corpus = packed(source(tmp_path / "s", REGIONS))
    starts = corpus.segments(1, recordings=[0], labelled_only=True)["start"] // RATE
    assert starts.tolist() == [0, 1, 2, 3, 7, 8]
    assert len(corpus.segments(1, recordings=[0])) == 10


@pytest.mark.parametrize("seed", range(4))
def test_folds_and_shares_count_labelled_time(tmp_path, seed):
    """Twelve recordings, six of which were annotated for a tenth of their time."""
    folder = tmp_path / "s"
    folder.mkdir()
    rows, regions = [], []
    for number in range(12):
        name = f"r{number:02d}.wav"
        soundfile.write(folder / name, tone(100, 10, RATE), RATE, subtype="PCM_16")
        rows.append(f"{name},0.1,0.2,wren\n")
        regions.append(f"{name},0,{10 if number < 6 else 1}\n")
    (folder / "annotations.csv").write_text("file,onset_s,offset_s,label\n" + "".join(rows))
    (folder / "regions.csv").write_text("file,onset_s,offset_s\n" + "".join(regions))
    listing = open_listing(folder)
    times = dict(zip([one.name for one in listing.recordings], labelled_times(listing), strict=True))
    folds = make_folds(listing, 3, seed)
    evaluated = [sum(times[name] for name in fold.evaluation) for fold in folds]
    assert evaluated == pytest.approx([22, 22, 22])
    for share in (0.25, 0.5):
        chosen = label_share(folds[0], share, seed).train
        assert sum(times[name] for name in chosen) == pytest.approx(44 * share, abs=1.01)


def test_a_prepared_folder_keeps_what_is_unsure(tmp_path):
    mapping = "wren,wren\nrobin,?\n"
    folder = source(tmp_path / "s", REGIONS, mapping=mapping)
    reading = AnnotationConfig(mapping="mapping.csv")
    prepared = tmp_path / "prepared"
    prepare(folder, prepared, PrepareConfig(sample_rate=RATE, segment_s=3, annotations=reading))
    direct = packed(folder, mapping="mapping.csv")
    again = pack(prepared, tmp_path / "again", PackConfig(sample_rate=RATE))
    assert direct.classes == again.classes
    assert [one.labelled for one in direct.recordings] == [one.labelled for one in again.recordings]
    assert listed(direct, direct.events) == listed(again, again.events)
    assert listed(direct, direct.unsure) == listed(again, again.unsure)
    (folder / "regions.csv").unlink()
    prepare(folder, prepared, PrepareConfig(sample_rate=RATE, segment_s=3, annotations=AnnotationConfig()))
    assert not len(pack(prepared, tmp_path / "whole", PackConfig(sample_rate=RATE)).unsure)


@pytest.mark.parametrize("seed", range(10))
def test_every_second_is_one_thing(seed):
    """Against a grid of hundredths: what is unsure is what regions and ignored time leave, and never an event's."""
    rng = np.random.default_rng(seed)

    def spans(count: int, longest: int) -> list[tuple[float, float]]:
        onsets = rng.integers(0, 1000 - longest, count)
        return [(onset / 100, (onset + int(rng.integers(1, longest))) / 100) for onset in onsets.tolist()]

    rows = [
        Annotation("a", onset, offset, ("wren", "?", "ignore")[int(rng.integers(3))], False, "")
        for onset, offset in spans(12, 120)
    ]
    regions = {"a": spans(4, 400)}
    found = sure(rows, regions, {"a": 10.0})
    grid = (np.arange(1000) + 0.5) / 100

    def on(intervals: list[tuple[float, float]]) -> np.ndarray:
        return np.any([(grid > onset) & (grid < offset) for onset, offset in intervals] or [grid < 0], axis=0)

    ignored = ~on(regions["a"]) | on([(row.onset_s, row.offset_s) for row in rows if row.label == "ignore"])
    events = [row for row in rows if row.label != "ignore"]
    kept, gone = [], []
    for row in events:
        middle = (row.onset_s + row.offset_s) / 2
        place = min(int(middle * 100 + 1e-6), 999)
        (gone if ignored[place] else kept).append((row.onset_s, row.offset_s, row.label))
    wanted = (ignored | on([one[:2] for one in gone])) & ~on([one[:2] for one in kept])
    unsure = found.unsure.get("a", ())
    np.testing.assert_array_equal(on([one[1:] for one in unsure if one[0] == IGNORED]), wanted)
    np.testing.assert_array_equal(
        on([one[1:] for one in unsure if one[0] == UNKNOWN]), on([one[:2] for one in kept if one[2] == "?"])
    )
    assert sorted((row.onset_s, row.offset_s) for row in found.rows) == sorted(
        one[:2] for one in kept if one[2] == "wren"
    )
    assert found.dropped.total() == len(gone)


def test_without():
    assert without([(0, 10)], [(2, 3), (1, 2), (8, 12)]) == [(0, 1), (3, 8)]
    assert without([(0, 1), (4, 6)], [(5, 5.5)]) == [(0, 1), (4, 5), (5.5, 6)]
    assert without([(0, 1)], []) == [(0, 1)]


def test_preview_knows_what_was_annotated(tmp_path):
    folder = source(tmp_path / "s", REGIONS, mapping="wren,wren\nrobin,?\n")
    reading = AnnotationConfig(mapping="mapping.csv")
    piece = open_piece(folder / "a.wav", reading=reading)
    assert piece.unknown() == [(4.0, 7.0), (8.0, 10.0)]
    assert ("?", 7.8, 8.1) in piece.inside()
    stored = open_piece(packed(folder, mapping="mapping.csv").folder, recording="a.wav")
    assert stored.unknown() == [(3.9, 7.0), (8.1, 10.0)]
    assert stored.inside() == [("wren", 1.0, 1.5), ("?", 7.8, 8.1)]


@pytest.mark.parametrize("place", ["Regions.CSV", "annotations/regions.csv", "day1/regions.csv"])
def test_regions_are_found_where_tables_are(tmp_path, place):
    """Beside annotations.csv, in a folder of tables, beside the recordings of a day; spreadsheets write semicolons."""
    folder = source(tmp_path / "s")
    (folder / "day1").mkdir()
    (folder / "b.wav").rename(folder / "day1" / "b.wav")
    table = (folder / "annotations.csv").read_text().replace("b.wav", "day1/b.wav")
    (folder / "annotations.csv").write_text(table)
    target = folder / place
    target.parent.mkdir(exist_ok=True)
    own = "b.wav" if place.startswith("day1") else "day1/b.wav"
    target.write_text(f"file;onset_s;offset_s\n{own};0;3,5\n", encoding="utf-8-sig")
    corpus = packed(folder)
    assert listed(corpus, corpus.events) == [("day1/b.wav", 0, 2.0, 2.5)]
    assert labelled_times(corpus).sum() == pytest.approx(3.5)


def test_a_mapping_may_make_regions_of_other_labels(tmp_path):
    marks = [("a.wav", 0.0, 4.0, "Annotated"), ("b.wav", 0.0, 10.0, "annotated")]
    mapping = "Ann*,annotated\nwren,wren\nrobin,robin\n"
    corpus = packed(source(tmp_path / "s", events=EVENTS + marks, mapping=mapping), mapping="mapping.csv",
                    region_label="annotated")  # fmt: skip
    assert corpus.classes == ("robin", "wren")
    assert [one.labelled for one in corpus.recordings] == [True, True, False]


def test_regions_are_written_as_they_are_read(tmp_path):
    names = RecordingNames(tmp_path, ["a, b.wav", "c.wav"])
    regions = {"a, b.wav": [(0.1, 2.0), (3.0, 4.5)], "c.wav": [WHOLE]}
    (tmp_path / "regions.csv").write_text(region_csv(regions))
    assert read_regions(tmp_path / "regions.csv", lambda name: names.resolve(name, tmp_path)) == (regions, [])


def test_segments_in_meerkats_layout_have_regions_too(tmp_path):
    for part in ("wav", "lbl"):
        (tmp_path / part).mkdir()
    for name in "ab":
        soundfile.write(tmp_path / "wav" / f"{name}.wav", tone(100, 10, RATE), RATE, subtype="PCM_16")
        write_labels(tmp_path / "lbl" / f"{name}.h5", [("cc", 1000, 1500, False), ("sn", 6000, 6500, False)], RATE)
    (tmp_path / "regions.csv").write_text("file,onset_s,offset_s\na.wav,0,4\nb.wav,,\n")
    listing = open_listing(tmp_path)
    assert labelled_times(listing).tolist() == pytest.approx([4, 10])
    assert len(listing.events) == 3
    assert open_piece(tmp_path / "wav" / "a.wav").unknown() == [(4.0, 10.0)]


def test_hours_that_rounding_leaves_are_none(tmp_path):
    """An event may pass the end by a sample: then nothing of it is not annotated."""
    listing = open_listing(source(tmp_path / "s"))
    assert corpus_statistics(listing)["unlabelled_parts_hours"] == 0
