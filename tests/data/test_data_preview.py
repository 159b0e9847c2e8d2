"""A piece of a recording: only it is read, what is heard is seen, and its own labels are found."""

from collections.abc import Callable
from pathlib import Path

import a2v_data.preview as preview
import numpy as np
import pytest
import soundfile
from a2v_data.figures import clock
from a2v_data.meerkat import write_labels
from a2v_data.pack import PackConfig, pack
from a2v_data.preview import Piece, open_piece, picture, preview_figure
from data_sounds import tone
from figure_texts import outside, texts_overlap
from matplotlib.figure import Figure

MakeSource = Callable[..., Path]


def piece_of(read: Callable[[int, int], np.ndarray], samples: int, rate: int = 8000, first: int = 0) -> Piece:
    return Piece("x.wav", rate, samples, first, samples, None, "", read)


def of_array(audio_N: np.ndarray, rate: int = 8000) -> Piece:
    return piece_of(lambda first, end: audio_N[first:end].astype(np.float32), len(audio_N), rate)


def test_a_tone_is_where_it_sounds() -> None:
    """1 kHz from 1 to 2 s of 4 s: the loudest row is 1 kHz, the loud columns are that second."""
    audio_N = np.random.default_rng(0).normal(0, 1e-4, 32_000)
    audio_N[8000:16_000] += tone(1000, 1, 8000)
    seen = picture(of_array(audio_N))
    rows, columns = seen.level.shape
    loud_F = seen.level.max(1)
    assert seen.top_hz == 4000 and loud_F.argmax() * 4000 / (rows - 1) == pytest.approx(1000, abs=40)
    loud = np.flatnonzero(seen.level[loud_F.argmax()] > loud_F.max() - 6) * 4 / columns
    assert loud.min() == pytest.approx(1, abs=0.02) and loud.max() == pytest.approx(2, abs=0.02)
    assert seen.high.max() == pytest.approx(0.5, abs=0.01) and seen.low.min() == pytest.approx(-0.5, abs=0.01)


@pytest.mark.parametrize("samples", [16, 100, 1601, 8000, 123_457])
def test_blocks_leave_no_trace(monkeypatch: pytest.MonkeyPatch, samples: int) -> None:
    """The same picture from blocks of any size, and the waveform's extremes are those of its columns."""
    audio_N = np.random.default_rng(1).uniform(-1, 1, samples)
    seen = []
    for block in (1 << 17, 700, 1):
        monkeypatch.setattr(preview, "BLOCK_SAMPLES", block if samples < 5000 else max(block, 700))
        seen.append(picture(of_array(audio_N)))
    for other in seen[1:]:
        assert np.array_equal(seen[0].low, other.low) and np.array_equal(seen[0].high, other.high)
        assert np.allclose(seen[0].level, other.level, atol=1e-3)
    columns = len(seen[0].low)
    assert columns == min(samples, preview.COLUMNS) and np.isfinite(seen[0].low).all()
    of_column = np.arange(samples) * columns // samples
    assert seen[0].high[-1] == pytest.approx(audio_N[of_column == columns - 1].max(), rel=1e-6)
    assert seen[0].low[0] == pytest.approx(audio_N[of_column == 0].min(), rel=1e-6)


@pytest.mark.slow
def test_no_short_call_is_lost_in_hours() -> None:
    """Two hours, a call of 30 ms after 1 h: it stands out; no block is longer than 20 s, nothing is read twice over."""
    rate, samples, asked = 8000, 2 * 3600 * 8000, []
    call_N = tone(2000, 0.03, rate).astype(np.float32)

    def read(first: int, end: int) -> np.ndarray:
        asked.append((first, end))
        block_N = np.full(end - first, 1e-4, np.float32)
        at = samples // 2 - first
        if 0 <= at < len(block_N):
            block_N[at : at + 240] += call_N[: len(block_N) - at]
        return block_N

    done: list[tuple[int, int]] = []
    seen = picture(piece_of(read, samples), lambda *counted: done.append(counted))
    middle = seen.level.shape[1] // 2
    row = round(2000 / 4000 * (len(seen.level) - 1))
    assert seen.level[row].argmax() in (middle - 1, middle) and seen.level[row].max() > np.median(seen.level[row]) + 30
    assert seen.high.argmax() == middle and seen.high.max() > 0.49
    assert max(end - first for first, end in asked) < 20 * rate
    assert sum(end - first for first, end in asked) < 1.05 * samples and done[-1] == (samples, samples)


def test_only_the_piece_is_read(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    audio_N = np.random.default_rng(0).integers(-3000, 3000, 40 * 8000).astype(np.int16)
    soundfile.write(path, audio_N, 8000)
    piece = open_piece(path, 20.5, 21)
    assert (piece.first, piece.end, piece.start_s, piece.end_s) == (164_000, 168_000, 20.5, 21)
    assert np.array_equal(piece.read(piece.first, piece.end), audio_N[164_000:168_000] / np.float32(32768))
    asked: list[tuple[int, int]] = []
    spy = Piece(**{**piece.__dict__, "read": lambda a, b: asked.append((a, b)) or piece.read(a, b)})  # type: ignore[func-returns-value]
    picture(spy)
    assert min(a for a, _ in asked) == 164_000 and max(b for _, b in asked) == 168_000


@pytest.mark.parametrize(
    "seconds, start, end, wanted",
    [
        (25, None, None, (0, 25)),  # short: all of it
        (31, None, None, (0, 10)),
        (31, 25, None, (25, 31)),  # 10 s from there, or what is left
        (31, 3, None, (3, 13)),
        (31, None, 2, (0, 2)),
        (31, 1, 99, (1, 31)),
    ],
)
def test_which_piece(
    make_source: MakeSource, seconds: int, start: float | None, end: float | None, wanted: tuple[float, float]
) -> None:
    folder = make_source({"a.wav": np.zeros(seconds * 1000)}, rate=1000)
    piece = open_piece(folder / "audio" / "a.wav", start, end)
    assert (piece.start_s, piece.end_s) == wanted and piece.duration_s == seconds


def test_a_long_recording_is_shown_where_it_has_labels(make_source: MakeSource) -> None:
    """Its beginning, unless that has none: then from a second before the first, and never past the end."""
    quiet = {name: np.zeros(60_000) for name in ("a.wav", "b.wav", "c.wav", "d.wav")}
    rows = ["a.wav,30.5,31,x", "a.wav,40,41,x", "b.wav,3,4,x", "b.wav,50,51,x", "c.wav,59,59.5,x"]
    folder = make_source(quiet, rows, 1000) / "audio"
    starts = {name: open_piece(folder / name).start_s for name in quiet}
    assert starts == {"a.wav": 29, "b.wav": 0, "c.wav": 50, "d.wav": 0}
    assert open_piece(folder / "c.wav").end_s == 60 and open_piece(folder / "c.wav").inside() == [("x", 59, 59.5)]
    assert open_piece(folder / "a.wav", end_s=5).start_s == 0  # as it was asked for


def test_tables_of_its_folder_are_read_as_a_source(tmp_path: Path) -> None:
    """In annotations/ by the recording's name or by a column, and beside it; what is wrong with others is theirs."""
    for name in ("day1/a", "day1/b", "day2/c"):
        (tmp_path / "s" / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / "s" / f"{name}.wav", np.zeros(4000), 1000)
    raven = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tAnnotation\n1\tWaveform 1\t1\t{}\n"
    tables = tmp_path / "s" / "annotations"
    (tables / "day1").mkdir(parents=True)
    (tables / "day1" / "a.Table.1.selections.txt").write_text(raven.format("1\t2\tcc"))
    (tables / "day1" / "b.Table.1.selections.txt").write_text(raven.format("2\t1\tcc"))  # ends before it starts
    piece = open_piece(tmp_path / "s" / "day1" / "a.wav")
    assert piece.events == [("cc", 1, 2)] and piece.labels.endswith("annotations/day1/a.Table.1.selections.txt")
    assert open_piece(tmp_path / "s" / "day2" / "c.wav").events is None
    with pytest.raises(ValueError, match=r"b\.Table\.1\.selections\.txt, row 2: .* ends after it starts"):
        open_piece(tmp_path / "s" / "day1" / "b.wav")
    (tables / "all.csv").write_text("file,onset_s,offset_s,label\nday2/c.wav,0.5,1,song\n")
    assert open_piece(tmp_path / "s" / "day2" / "c.wav").events == [("song", 0.5, 1)]

    (tmp_path / "beside").mkdir()
    soundfile.write(tmp_path / "beside" / "a.wav", np.zeros(4000), 1000)
    (tmp_path / "beside" / "a.txt").write_text("1.0\t2.5\tbark\n")
    assert open_piece(tmp_path / "beside" / "a.wav").events == [("bark", 1, 2.5)]


def test_labels_of_a_recording_are_found(make_source: MakeSource, tmp_path: Path) -> None:
    """In the annotations.csv of its folder, in a table that is named, in MeerKAT's layout, in a packed corpus."""
    audio = {"sub/a.wav": np.full(4000, 0.1), "b.wav": np.full(4000, 0.2)}
    rows = ["sub/a.wav,0.5,0.75,bark,1", "b.wav,1,2,song,0", "sub/a.wav,2,3,song,0"]
    source = make_source(audio, rows, 1000, "file,onset_s,offset_s,label,focal")
    wanted = [("bark", 0.5, 0.75), ("song", 2.0, 3.0), ("focal", 0.5, 0.75)]
    path = source / "audio" / "sub" / "a.wav"
    assert open_piece(path).events == wanted
    table = tmp_path / "other.csv"
    (source / "annotations.csv").rename(table)
    assert open_piece(path).events is None
    piece = open_piece(path, 0, 1, table)
    assert piece.events == wanted and [event[0] for event in piece.inside()] == ["bark", "focal"]

    table.rename(source / "annotations.csv")
    packed = pack(source, tmp_path / "packed", PackConfig(sample_rate=1000, labelled="all"))
    piece = open_piece(tmp_path / "packed", recording="sub/a.wav")
    assert sorted(piece.events or []) == sorted(wanted)
    assert np.allclose(piece.read(10, 20), 0.1, atol=1e-4) and piece.samples == 4000 and packed.classes[-1] == "focal"

    (tmp_path / "m" / "wav" / "x").mkdir(parents=True)
    (tmp_path / "m" / "lbl" / "x").mkdir(parents=True)
    for name in ("a", "b"):
        soundfile.write(tmp_path / "m" / "wav" / "x" / f"{name}.wav", np.zeros(80_000), 8000)
    write_labels(tmp_path / "m" / "lbl" / "x" / "a.h5", [("cc", 800, 1600, True)], 8000)
    assert open_piece(tmp_path / "m" / "wav" / "x" / "a.wav").events == [("cc", 0.1, 0.2), ("focal", 0.1, 0.2)]
    assert open_piece(tmp_path / "m" / "wav" / "x" / "b.wav").events is None


def test_one_channel_of_several(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "two.flac", np.stack([np.full(8000, 0.25), np.full(8000, -0.5)], 1), 8000)
    piece = open_piece(tmp_path / "two.flac", channel=1)
    assert np.allclose(piece.read(0, 8000), -0.5) and piece.name == "two.flac, channel 1 of 2"


def test_bad_input_is_one_line(make_source: MakeSource, tmp_path: Path) -> None:
    source = make_source({"a.wav": np.zeros(2000), "b.wav": np.zeros(2000)}, ["a.wav,0,1,x"], 1000)
    good = source / "audio" / "a.wav"
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "cut.wav").write_bytes(good.read_bytes()[:-200])
    (tmp_path / "folder.wav").mkdir()
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: open_piece(tmp_path / "gone.wav"), "no such recording"),
        (lambda: open_piece(tmp_path / "text.wav"), "is not readable as audio"),
        (lambda: open_piece(tmp_path / "empty.wav"), "is empty"),
        (lambda: open_piece(tmp_path / "cut.wav"), "is truncated"),
        (lambda: open_piece(tmp_path / "folder.wav"), "is a folder; name a recording"),
        (lambda: open_piece(good, channel=1), r"has 1 channel\(s\), channel 1 was asked for"),
        (lambda: open_piece(good, 2.0), "start 2 s is not in the recording, which is 2.000 s long"),
        (lambda: open_piece(good, 1, 1), "end 1 s is not after start 1 s"),
        (lambda: open_piece(good, 1, 1.005), "has 5 samples; choose a longer piece"),
        (lambda: open_piece(good, recording="b.wav"), "is no packed corpus"),
        (lambda: open_piece(good, annotations=tmp_path / "gone.csv"), "no such file"),
    ]
    pack(source, tmp_path / "packed", PackConfig(sample_rate=1000))
    cases += [
        (lambda: open_piece(tmp_path / "packed"), r"name one of its 2 recordings \(a.wav, b.wav\)"),
        (lambda: open_piece(tmp_path / "packed", recording="c.wav"), "no recording 'c.wav'"),
        (lambda: open_piece(tmp_path / "packed", annotations=good, recording="a.wav"), "has its own labels"),
    ]
    for call, said in cases:
        with pytest.raises(ValueError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)
    (source / "annotations.csv").write_text("file,onset_s,offset_s,label\na.wav,1,0.5,x\na.wav,x,1,y\n")
    with pytest.raises(ValueError, match=r"annotations.csv, row 2: offset_s .* \(and 1 more\)"):
        open_piece(good)
    (tmp_path / "m" / "wav").mkdir(parents=True)
    (tmp_path / "m" / "lbl").mkdir()
    soundfile.write(tmp_path / "m" / "wav" / "a.wav", np.zeros(800), 8000)
    (tmp_path / "m" / "lbl" / "a.h5").write_text("no labels")
    with pytest.raises(ValueError, match="not readable as HDF5 labels"):
        open_piece(tmp_path / "m" / "wav" / "a.wav")


def test_what_is_wrong_within_the_piece(tmp_path: Path) -> None:
    audio_N = np.zeros(16_000, np.float32)
    audio_N[12_000] = np.nan
    soundfile.write(tmp_path / "nan.wav", audio_N, 8000, subtype="FLOAT")
    picture(open_piece(tmp_path / "nan.wav", 0, 1))
    with pytest.raises(ValueError, match=r"nan\.wav: holds NaN or infinity at 1\.500 s"):
        picture(open_piece(tmp_path / "nan.wav"))
    soundfile.write(tmp_path / "cut.flac", np.random.default_rng(0).uniform(-1, 1, 80_000), 8000)
    content = (tmp_path / "cut.flac").read_bytes()
    (tmp_path / "cut.flac").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut\.flac: is (truncated|damaged)"):
        picture(open_piece(tmp_path / "cut.flac"))


def events(classes: int) -> list[tuple[str, float, float]]:
    return [(f"class_{number}", 0.2 * number, 0.2 * number + 0.15) for number in range(classes)]


@pytest.mark.parametrize("classes", [None, 0, 1, 40])
def test_the_figure(classes: int | None) -> None:
    audio_N = np.random.default_rng(0).normal(0, 0.1, 80_000)
    piece = of_array(audio_N)
    piece = Piece(**{**piece.__dict__, "events": None if classes is None else events(classes), "name": "$n$" * 60})
    figure = preview_figure(piece, picture(piece))
    wave, spectrum, lanes = figure.axes
    assert wave.get_ylabel().startswith("Amplitude") and spectrum.get_ylabel() == "Frequency (kHz)"
    assert lanes.get_xlabel() == "Time (mm:ss)" and lanes.get_xlim() == (0, 10) and spectrum.get_ylim() == (0, 4)
    names = [label.get_text() for label in lanes.get_yticklabels()]
    assert names == sorted(name for name, _, _ in events(classes or 0))
    texts = [text.get_text() for text in lanes.texts]
    assert texts == {None: ["no labels are known"], 0: ["no event in this piece"]}.get(classes, [])
    for row, name in enumerate(names):
        (bar,) = lanes.collections[row].get_paths()
        number = int(name.partition("_")[2])
        assert bar.vertices[:, 0].min() == pytest.approx(0.2 * number)
        assert bar.vertices[:, 0].max() == pytest.approx(0.2 * number + 0.15)
    assert texts_overlap(figure) == [] and outside(figure) == []


def test_silence_and_long_pieces_are_drawn() -> None:
    silent = of_array(np.zeros(8000))
    figure = preview_figure(silent, picture(silent))
    assert np.isfinite(figure.axes[1].images[0].get_array()).all() and texts_overlap(figure) == []
    hours = Piece("h.wav", 10, 90_000, 0, 90_000, [("a", 3600.0, 5400.0)], "", lambda a, b: np.zeros(b - a, np.float32))
    figure = preview_figure(hours, picture(hours))
    assert figure.axes[2].get_xlabel() == "Time (h:mm:ss)" and figure.axes[2].get_xlim() == (0, 9000)
    (bar,) = figure.axes[2].collections[0].get_paths()
    assert (bar.vertices[:, 0].min(), bar.vertices[:, 0].max()) == (3600, 5400)
    assert ticks(figure)[:3] == ["0:00:00", "0:20:00", "0:40:00"] and texts_overlap(figure) == []


def ticks(figure: Figure) -> list[str]:
    figure.canvas.draw()
    low, high = figure.axes[2].get_xlim()
    axis = figure.axes[2].xaxis
    return [tick.label1.get_text() for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def test_the_axis_reads_as_players_do() -> None:
    """754 to 764 s is 12:34 to 12:44; a piece of a second has ticks between."""
    piece = piece_of(lambda first, end: np.zeros(end - first, np.float32), 764 * 8000, first=754 * 8000)
    seen = ticks(preview_figure(piece, picture(piece)))
    assert seen == [f"12:{second}" for second in range(34, 45)]
    piece = piece_of(lambda first, end: np.zeros(end - first, np.float32), 14_000, first=8000)
    assert ticks(preview_figure(piece, picture(piece)))[:2] == ["00:01.0", "00:01.1"]
    assert [clock(second) for second in (0, 61.25, 3599.9996, 45_296)] == ["00:00", "01:01.25", "1:00:00", "12:34:56"]
