"""What is recorded beside sound: tables, grids, packed stores."""

import re
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import soundfile
from a2v_data.augment import AugmentConfig, Augmenter, PasteConfig
from a2v_data.corpus import SEGMENT_DTYPE, Corpus
from a2v_data.meerkat import read_labels
from a2v_data.pack import PackConfig, pack
from a2v_data.sources import open_source, source_fingerprint
from a2v_data.streams.config import StreamConfig
from a2v_data.streams.folder import StreamFolder
from a2v_data.streams.grid import grid_length, on_grid, window
from a2v_data.streams.tables import StreamError
from a2v_data.synth import synthesise
from a2v_data.training_part import TrainingPart

RATE = 1000
ACC = StreamConfig(columns=("x", "y"), rate=20)
DEPTH = StreamConfig(columns=("depth",), rate=1)
NAMES = ("day1/a.wav", "b.wav")


def values(time_s: np.ndarray) -> np.ndarray:
    """x and y of recordings, as functions of time."""
    return np.stack([time_s, 10 - 2 * time_s], axis=1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two recordings of 4 s and 2 s, one call in each."""
    folder = tmp_path / "source"
    for name, seconds in zip(NAMES, (4, 2), strict=True):
        path = folder / "audio" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(seconds).normal(0, 0.1, seconds * RATE)
        soundfile.write(path, noise, RATE, subtype="PCM_16")
    (folder / "annotations.csv").write_text(
        "file,onset_s,offset_s,label\nday1/a.wav,0.5,1,cc\nb.wav,1,1.5,sn\n", encoding="utf-8"
    )
    return folder


def write_table(path: Path, columns: dict[str, object]) -> None:
    """A table of any of the formats."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.table(columns), path)
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for name, column in columns.items():
                file[name] = column
    else:
        rows = zip(*columns.values(), strict=True)
        text = "\n".join(",".join("" if cell != cell else str(cell) for cell in row) for row in rows)
        path.write_text(f"{','.join(columns)}\n{text}\n", encoding="utf-8")


def columns_of(seconds: float) -> dict[str, object]:
    time_s = np.arange(0, seconds, 0.05) + 0.025
    return {"time_s": time_s, "x": values(time_s)[:, 0], "y": values(time_s)[:, 1]}


def found(source: Path, **streams: StreamConfig) -> StreamFolder:
    return StreamFolder.find(source, source / "audio", NAMES, streams or {"acc": ACC})


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".h5"])
def test_a_table_for_each_recording_in_every_format(source: Path, suffix: str) -> None:
    write_table(source / f"streams/day1/a{suffix}", columns_of(4))
    write_table(source / f"streams/b{suffix}", columns_of(2))
    for name, seconds in zip(NAMES, (4, 2), strict=True):
        table = found(source).of(name)
        assert table is not None
        grid = table.grids(seconds)["acc"]
        np.testing.assert_allclose(grid, values((np.arange(20 * seconds) + 0.5) / 20), atol=1e-5)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("called", ["b.wav", "b"])
def test_a_table_of_all_recordings_says_which(source: Path, suffix: str, called: str) -> None:
    columns = columns_of(2)
    write_table(source / f"streams{suffix}", {"file": [called] * 40, **columns})
    folder = found(source)
    assert folder.of("day1/a.wav") is None
    table = folder.of("b.wav")
    assert table is not None
    np.testing.assert_allclose(table.grids(2.0)["acc"], values((np.arange(40) + 0.5) / 20), atol=1e-5)


def test_an_hdf5_file_has_groups_for_recordings_and_for_streams_of_other_rates(source: Path) -> None:
    with h5py.File(source / "streams.h5", "w") as file:
        for name, seconds in zip(NAMES, (4, 2), strict=True):
            for key, column in columns_of(seconds).items():
                file[f"{name}/acc/{key}"] = column
            file[f"{name}/time_s"], file[f"{name}/depth"] = np.arange(seconds) + 0.5, np.arange(seconds) * 3.0
    grids = found(source, acc=ACC, depth=DEPTH).of("day1/a.wav").grids(4.0)
    np.testing.assert_allclose(grids["acc"], values((np.arange(80) + 0.5) / 20), atol=1e-5)
    np.testing.assert_allclose(grids["depth"][:, 0], [0, 3, 6, 9])


def test_streams_of_other_rates_share_a_table_with_empty_cells(source: Path) -> None:
    write_table(source / "streams/b.csv", columns_of(2) | {"depth": [7.0, *[np.nan] * 19, 9.0, *[np.nan] * 19]})
    grids = found(source, acc=ACC, depth=DEPTH).of("b.wav").grids(2.0)
    np.testing.assert_allclose(grids["depth"][:, 0], [7, 9])
    assert np.isfinite(grids["acc"]).all()


def test_semicolons_and_decimal_commas(source: Path) -> None:
    (source / "streams").mkdir()
    (source / "streams/b.csv").write_text("time_s;x;y\n0,5;1,5;2,5\n1,5;3,5;4,5\n", encoding="utf-8")
    slow = StreamConfig(columns=("x", "y"), rate=1)
    np.testing.assert_allclose(found(source, acc=slow).of("b.wav").grids(2.0)["acc"], [[1.5, 2.5], [3.5, 4.5]])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_faster_values_are_averaged_within_each_step(seed: int) -> None:
    rng = np.random.default_rng(seed)
    times_s = np.sort(rng.uniform(0, 5, 400))
    given = rng.normal(0, 1, (400, 3))
    grid = on_grid(rng.permutation(times_s) if seed == 0 else times_s, given, 4.0, 5.0, None)
    if seed:  # in any order the same
        order = rng.permutation(400)
        np.testing.assert_allclose(on_grid(times_s[order], given[order], 4.0, 5.0, None), grid, atol=1e-6)
        means = [given[(times_s >= k / 4) & (times_s < (k + 1) / 4)].mean(0) for k in range(20)]
        np.testing.assert_allclose(grid, means, atol=1e-6)


def test_slower_values_are_interpolated_and_long_gaps_are_not() -> None:
    times_s, given = np.array([1.0, 2.0, 3.0, 8.0, 9.0]), np.array([[0.0], [1.0], [2.0], [7.0], [8.0]])
    grid = on_grid(times_s, given, 2.0, 10.0, None)[:, 0]  # usually 1 s apart, so 2.5 s are bridged
    centres_s = (np.arange(20) + 0.5) / 2
    there = ((centres_s >= 1) & (centres_s < 3.5)) | ((centres_s >= 8) & (centres_s < 9.5))
    assert (np.isfinite(grid) == there).all()
    between = there & (centres_s % 1 == 0.75) & (centres_s < 3)
    np.testing.assert_allclose(grid[between], np.interp(centres_s[between], times_s, given[:, 0]))
    assert np.isfinite(on_grid(times_s, given, 2.0, 10.0, gap_s=5.0)[2:19]).all()


@pytest.mark.parametrize("rate", [0.5, 1.0, 12.5, 50.0])
@pytest.mark.parametrize("start_s", [0.0, 0.3, 2.0, 3.7, 9.9])
def test_a_window_is_the_grid_from_any_time_on(rate: float, start_s: float) -> None:
    """A ramp is its own interpolation; beyond the ends, and where the nearest value is missing, there is nothing."""
    length = grid_length(10.0, rate)
    ramp = (np.arange(length) + 0.5)[:, None] / rate
    cut = window(ramp.astype(np.float32), rate, start_s, 8)[:, 0]
    wanted = start_s + (np.arange(8) + 0.5) / rate
    inside = start_s + np.arange(8) / rate < 10 - 1e-6  # the last value holds to its end
    np.testing.assert_allclose(cut[inside], np.minimum(wanted[inside], ramp[-1, 0]), rtol=1e-5)
    assert np.isnan(cut[~inside]).all()
    holed = ramp.astype(np.float32).copy()
    holed[length // 2] = np.nan
    seen = window(holed, rate, start_s, 8)[:, 0]
    off = np.round((wanted - ramp[length // 2, 0]) * rate, 6)  # in steps; the nearer of two counts
    assert (np.isnan(seen) == (((off >= -0.5) & (off < 0.5)) | ~inside)).all()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x,y\n1,2\n", "streams/b.csv: must have the column time_s, seconds from the recording's start; it has x, y"),
        ("time_s,x\n1,2\n", "streams/b.csv: of acc the column y is missing; it has time_s, x"),
        ("time_s,a,b\n1,2,3\n", "streams/b.csv: has columns of no stream (acc: x, y); it has time_s, a, b"),
        ("time_s,x,y\n1,2,3\n2,oh,3\n", "streams/b.csv, row 3: x is 'oh'; must be a number, or empty"),
        ("time_s,x,y\n1,2,3\n,2,3\n", "streams/b.csv, row 3: time_s is empty; must be a number of seconds from the"),
        ("time_s,x,y\n05:30:00,2,3\n", "streams/b.csv, row 2: time_s is '05:30:00'; must be a number of seconds from"),
        ("time_s,x,y\n1,2\n", "streams/b.csv: is not readable as a table"),
        ("", "streams/b.csv: is not readable as a table"),
        ("time_s,x,y,x\n1,2,3,4\n", "streams/b.csv: the column x is there twice; rename one"),
    ],
)
def test_a_table_that_is_wrong_is_one_line(source: Path, text: str, told: str) -> None:
    (source / "streams").mkdir()
    (source / "streams/b.csv").write_text(text, encoding="utf-8")
    with pytest.raises(StreamError) as caught:
        found(source).of("b.wav").grids(2.0)
    assert str(caught.value).startswith(told) and "\n" not in str(caught.value)


def test_hdf5_that_stores_nothing_or_elsewhere_is_refused(source: Path) -> None:
    (source / "streams").mkdir()
    with h5py.File(source / "streams/b.h5", "w") as file:
        file["time_s"], file["x"] = np.arange(3.0), np.arange(3.0)
        file.create_dataset("y", (400_000_000,), np.float64, chunks=True)
    with pytest.raises(StreamError, match=r"streams/b.h5: y is stored elsewhere or not at all"):
        found(source).of("b.wav").grids(2.0)
    (source / "secret.bin").write_bytes(bytes(24))
    with h5py.File(source / "streams/b.h5", "w") as file:
        file["time_s"], file["x"] = np.arange(3.0), np.arange(3.0)
        file.create_dataset("y", (3,), np.float64, external=[(str(source / "secret.bin"), 0, 24)])
    with pytest.raises(StreamError, match=r"streams/b.h5: y is stored elsewhere or not at all"):
        found(source).of("b.wav").grids(2.0)


def test_what_lies_where_is_told(source: Path) -> None:
    with pytest.raises(StreamError, match=r"has no streams \(acc\): expected streams.csv with file,time_s"):
        found(source)
    write_table(source / "streams/nobody.csv", columns_of(2))
    with pytest.raises(StreamError, match=r"streams/nobody.csv is named like no recording"):
        found(source)
    write_table(source / "streams/b.csv", columns_of(2))
    assert found(source).unused == ("streams/nobody.csv",)
    write_table(source / "streams/b.h5", columns_of(2))
    with pytest.raises(StreamError, match=r"both b.csv and b.h5 are of b.wav; keep one"):
        found(source)
    (source / "streams/b.h5").unlink()
    write_table(source / "streams.csv", {"file": ["b.wav"] * 40, **columns_of(2)})
    with pytest.raises(StreamError, match=r"both streams.csv and streams/ are there; keep one"):
        found(source)


@pytest.mark.parametrize("places", ["streams", "ponds"])
def test_annotations_of_a_place_that_is_called_so_are_read(make_source, places: str) -> None:
    source = make_source({f"{places}/{places}1.wav": np.full(8000, 0.1)}, [])
    (source / "annotations.csv").unlink()
    table = source / "audio" / places / f"{places}1.csv"
    table.write_text("onset_s,offset_s,label\n0.2,0.4,cc\n", encoding="utf-8")
    assert [row.label for row in open_source(source).annotations().rows] == ["cc"]


def test_a_table_may_name_more_recordings_than_are_there_but_not_none_of_them(source: Path) -> None:
    time_s = np.arange(2.0)
    more = {"file": ["b.wav", "elsewhere.wav"], "time_s": time_s, "x": time_s, "y": time_s}
    write_table(source / "streams.csv", more)
    assert found(source).of("b.wav").listed == "b.wav"
    write_table(source / "streams.csv", {"file": ["c.wav"] * 40, **columns_of(2)})
    with pytest.raises(StreamError, match=r"streams.csv: file 'c.wav' does not exist"):
        found(source).of("b.wav")


def packed(source: Path, out: Path, **more: object) -> Corpus:
    return pack(source, out, PackConfig(sample_rate=RATE, streams={"acc": ACC}, **more))


def test_a_packed_store_gives_segments_their_streams(source: Path, tmp_path: Path) -> None:
    """Of one recording; the other has none, which is told."""
    write_table(source / "streams/day1/a.csv", columns_of(4))
    corpus = packed(source, tmp_path / "store")
    assert corpus.notices == ["streams.acc: 1 of 2 recordings have it, 67 % of all time"]
    a, b = corpus.indices(["day1/a.wav", "b.wav"])
    segments = np.array([(a, 1500), (b, 0), (a, 3500)], SEGMENT_DTYPE)
    (got,) = corpus.stream_windows(segments, 1.0).values()
    assert got.shape == (3, 20, 2) and got.dtype == np.float32
    np.testing.assert_allclose(got[0], values(1.5 + (np.arange(20) + 0.5) / 20), atol=1e-5)
    assert np.isnan(got[1]).all()
    assert np.isfinite(got[2][:10]).all() and np.isnan(got[2][10:]).all()  # the recording ends
    assert corpus.streams["acc"].covered() == pytest.approx(80 / 120)
    mean, spread = corpus.streams["acc"].statistics([a, b])
    time_s = (np.arange(80) + 0.5) / 20
    np.testing.assert_allclose(mean, values(time_s).mean(0), rtol=1e-5)
    np.testing.assert_allclose(spread, values(time_s).std(0), rtol=1e-5)
    assert corpus.streams["acc"].statistics([b]) is None


def test_a_recording_that_is_left_out_takes_its_streams_along(source: Path, tmp_path: Path) -> None:
    write_table(source / "streams/day1/a.csv", columns_of(4))
    write_table(source / "streams/b.csv", columns_of(2))
    path = source / "audio/b.wav"
    broken = source / "audio/a0.wav"
    broken.write_bytes(path.read_bytes()[: path.stat().st_size // 2])  # its header says more than there is
    write_table(source / "streams/a0.csv", columns_of(2))
    corpus = packed(source, tmp_path / "store")
    assert [recording.name for recording in corpus.recordings] == ["b.wav", "day1/a.wav"]
    np.testing.assert_allclose(corpus.stream_grids(0)["acc"], values((np.arange(40) + 0.5) / 20), atol=1e-5)
    np.testing.assert_allclose(corpus.stream_grids(1)["acc"], values((np.arange(80) + 0.5) / 20), atol=1e-5)


def test_times_that_are_no_seconds_of_the_recording_are_told(source: Path, tmp_path: Path) -> None:
    columns = columns_of(2)
    write_table(source / "streams/b.csv", columns | {"time_s": columns["time_s"] + 1.7e9})
    told = "streams/b.csv: has no value within the 2 s of b.wav; times must be seconds from the recording's start"
    with pytest.raises(ValueError, match=re.escape(told)):  # no recording would have any
        packed(source, tmp_path / "store")
    write_table(source / "streams/day1/a.csv", columns_of(4) | {"y": np.full(80, 3.0)})
    notices = packed(source, tmp_path / "store").notices
    assert told in notices and "streams.acc: y has one value everywhere" in notices


def test_a_store_whose_streams_are_cut_is_refused(source: Path, tmp_path: Path) -> None:
    write_table(source / "streams/b.csv", columns_of(2))
    packed(source, tmp_path / "store")
    path = tmp_path / "store/stream-acc.f32"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"stream-acc.f32: .* bytes, must be .*; pack it again"):
        Corpus.open(tmp_path / "store").streams  # noqa: B018 - it is read when it is asked for


def test_tables_of_streams_are_no_annotations_and_count_in_the_fingerprint(source: Path) -> None:
    before = source_fingerprint(source)
    write_table(source / "audio/streams/b.csv", columns_of(2))
    write_table(source / "streams/b.csv", columns_of(2))
    (source / "annotations.csv").rename(source / "audio/day1/a.csv")  # now all tables are looked for
    (source / "audio/day1/a.csv").write_text("onset_s,offset_s,label\n0.5,1,cc\n", encoding="utf-8")
    assert [row.label for row in open_source(source).annotations().rows] == ["cc"]
    alone, both = source_fingerprint(source), source_fingerprint(source, streams={"acc": ACC})
    write_table(source / "streams/b.csv", columns_of(2) | {"x": np.zeros(40)})
    assert source_fingerprint(source) == alone != before
    assert source_fingerprint(source, streams={"acc": ACC}) != both


@pytest.mark.parametrize("seed", range(4))
def test_a_pasted_call_brings_the_streams_of_its_time(source: Path, tmp_path: Path, seed: int) -> None:
    """x is the recording's time, so that it tells where each value was taken from."""
    write_table(source / "streams/day1/a.csv", columns_of(4))
    write_table(source / "streams/b.csv", columns_of(2) | {"y": np.zeros(40)})
    corpus = packed(source, tmp_path / "store", labelled="all")
    a, b = corpus.indices(["day1/a.wav", "b.wav"])
    config = AugmentConfig(paste=PasteConfig(probability=1, most=1, silent_share=0, context_s=(0, 0), snr_db=(10, 15)))
    augmenter = Augmenter(TrainingPart(corpus, [b]), 10, config, streams={"acc": ACC})
    segment = np.array([(a, 0)], SEGMENT_DTYPE)
    waveform_BN, lengths_B = corpus.waveforms(segment, 4 * RATE)
    streams = corpus.stream_windows(segment, 4.0)
    before = streams["acc"].copy()
    targets = corpus.targets(segment, 100.0, 400)
    _, after = augmenter(waveform_BN, lengths_B, targets, np.random.default_rng(seed), streams)
    pasted_T = after[0, :, 0] > targets[0, :, 0]  # sn
    changed_M = (streams["acc"] != before).any(axis=(0, 2))
    onset_s, offset_s = np.flatnonzero(pasted_T)[[0, -1]] / 100
    centres_s = (np.flatnonzero(changed_M) + 0.5) / 20
    assert centres_s.min() == pytest.approx(onset_s, abs=0.06) and centres_s.max() == pytest.approx(offset_s, abs=0.06)
    taken = streams["acc"][0][changed_M]
    assert (taken[:, 1] == 0).all() and taken[:, 0].min() > 0.9 and taken[:, 0].max() < 1.6  # b's call: 1 to 1.5 s
    np.testing.assert_allclose(taken[:, 0] - 1.0, centres_s - onset_s, atol=0.03)


def test_the_synthetic_accelerometer_moves_when_it_is_eating_and_not_when_it_is_called(tmp_path: Path) -> None:
    """Variation of z within 0.4 s, over labelled events, against that of all other time."""
    folder = synthesise(tmp_path / "synth", 10, 3, accelerometer=True)
    assert len(list((folder / "streams").iterdir())) == 60
    of: dict[str, list[float]] = {"eating": [], "cc": [], "rest": []}
    for path in sorted((folder / "lbl").iterdir()):
        table = np.loadtxt(folder / "streams" / f"{path.stem}.csv", delimiter=",", skiprows=1)
        assert table.shape == (500, 4)
        events, _ = read_labels(path, "x", "x")
        inside = np.zeros(500, bool)
        for event in events:
            at = slice(round(event.onset_s * 50), max(round(event.offset_s * 50), round(event.onset_s * 50) + 20))
            inside[at] = True
            if event.label in of:
                of[event.label].append(float(np.diff(table[at, 3]).std()))
        of["rest"].append(float(np.median(np.abs(np.diff(table[~inside, 3])))) / 0.6745)
    assert np.median(of["eating"]) > 2 * np.median(of["rest"])
    assert np.median(of["cc"]) < 1.3 * np.median(of["rest"])
    plain = synthesise(tmp_path / "plain", 1, 3)
    assert not (plain / "streams").exists()


def test_statistics_are_of_each_column_by_itself(source: Path, tmp_path: Path) -> None:
    """x is there in one half, far from 0 and hardly moving; y in the other, and one value everywhere."""
    columns = columns_of(2)
    x = 50_000 + np.sin(np.arange(40.0))
    x[20:], y = np.nan, np.full(40, 7.0)
    y[:20] = np.nan
    write_table(source / "streams/b.csv", columns | {"x": x, "y": y})
    mean, spread = packed(source, tmp_path / "store").streams["acc"].statistics([0, 1])
    np.testing.assert_allclose(mean, [np.nanmean(x), 7.0], rtol=1e-6)
    np.testing.assert_allclose(spread, [np.nanstd(x), 1.0], rtol=1e-2)  # stored as float32
