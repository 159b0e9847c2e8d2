"""A look at one recording: waveform, spectrogram and labels of a piece of it.

Only the piece is read, in blocks, and only what a picture can show of it is kept: so a day of audio needs no more
memory than a minute. N samples, K columns of the picture, F frequencies, T windows of a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.audio import AudioError, read_info
from a2v_data.corpus import FULL_SCALE, Corpus
from a2v_data.corpus_files import META
from a2v_data.figures import BLUE, FONT_PT, ORANGE, PAGE_IN, clock, clock_axis, finish, lane_names, new_figure
from a2v_data.intervals import IGNORED, Interval
from a2v_data.meerkat import MEERKAT_CLASSES
from a2v_data.plan import FOCAL
from a2v_data.recording_labels import Event, labels_of
from a2v_data.regions import UNKNOWN_CLASS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WHOLE_S, FIRST_S = 30.0, 10.0  # up to this long a recording is shown whole, of a longer one so much of its beginning
COLUMNS = 1600
BLOCK_SAMPLES = 1 << 17
WINDOW_S = 0.02
SHORTEST_SAMPLES = 16
LEAD_S = 1.0  # before the first event, where the beginning has none
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Piece:
    """A piece of a recording, from sample `first` to before `end`, and all events of the recording.

    events: (class, onset, offset) in seconds from the recording's start; None where no labels are known. labels: where
    they come from, for messages. read: (first, end) -> samples (N,) in full scale 1. not_annotated: when nothing is
    known, in seconds from the recording's start.
    """

    name: str
    rate: int
    samples: int
    first: int
    end: int
    events: list[Event] | None
    labels: str
    read: Callable[[int, int], np.ndarray]
    not_annotated: Sequence[Interval] = ()

    @property
    def start_s(self) -> float:
        """Where the piece begins, in seconds."""
        return self.first / self.rate

    @property
    def end_s(self) -> float:
        """Where the piece ends, in seconds."""
        return self.end / self.rate

    @property
    def duration_s(self) -> float:
        """Length of the whole recording in seconds."""
        return self.samples / self.rate

    def inside(self) -> list[Event]:
        """Events that sound within the piece."""
        return [event for event in self.events or [] if event[2] > self.start_s and event[1] < self.end_s]

    def unknown(self) -> list[Interval]:
        """When nothing was annotated within the piece."""
        cut = ((max(onset, self.start_s), min(offset, self.end_s)) for onset, offset in self.not_annotated)
        return [(onset, offset) for onset, offset in cut if offset > onset]


def open_piece(
    path: Path,
    start_s: float | None = None,
    end_s: float | None = None,
    annotations: Path | None = None,
    recording: str | None = None,
    channel: int = 0,
    reading: AnnotationConfig | None = None,
) -> Piece:
    """A piece of the recording `path`, or of `recording` in the packed corpus `path`.

    Without `start_s` and `end_s` a recording of up to 30 s is taken whole, and of a longer one the first 10 s, or those
    around its first event where that comes later; with `start_s` alone, 10 s from there. Labels are those of
    `annotations` (a table), else those that belong to the recording: its label file in MeerKAT's layout, or the tables
    of its folder (annotations.csv, annotations/, beside it); `reading` says how tables are read. Raises `ValueError`
    for what cannot be read or is outside the recording.
    """
    path = Path(path)
    if (path / META).is_file():
        if annotations is not None or (reading and reading.model_fields_set):
            asked = annotations or ", ".join(sorted(reading.model_fields_set if reading else ()))
            raise ValueError(f"{path}: a packed corpus has its own labels; leave out {asked}")
        return _of_corpus(Corpus.open(path), recording, start_s, end_s)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name a recording in it, or a packed corpus")
    if recording is not None:
        raise ValueError(f"{path}: is no packed corpus, so no recording {recording!r} can be chosen in it")
    if not path.exists():
        raise ValueError(f"{path}: no such recording")
    try:
        info = read_info(path, channel)
    except AudioError as error:
        raise ValueError(f"{path}: {error}") from None
    labels = labels_of(path, annotations, reading or AnnotationConfig(), channel)
    first, end = _bounds(path.name, info.rate, info.samples, start_s, end_s, labels.events)
    name = path.name if info.channels == 1 else f"{path.name}, channel {channel} of {info.channels}"
    read = _file_reader(path, channel)
    return Piece(
        name, info.rate, info.samples, first, end, labels.events, labels.place, read, labels.not_annotated
    )  # fmt: skip


def _of_corpus(corpus: Corpus, recording: str | None, start_s: float | None, end_s: float | None) -> Piece:
    names = [one.name for one in corpus.recordings]
    if recording is None:
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise ValueError(f"{corpus.folder}: name one of its {len(names)} recordings ({some})")
    [number] = corpus.indices([recording])
    one = corpus.recordings[number]
    events = [
        (corpus.classes[class_] if class_ >= 0 else UNKNOWN_CLASS, onset_s, offset_s)
        for _, class_, onset_s, offset_s in corpus.truth(number).tolist()
        if class_ != IGNORED
    ]
    unsure = corpus.unsure_of(number)
    ignored = unsure[unsure["class"] == IGNORED][["onset_s", "offset_s"]].tolist()

    def read(first: int, end: int) -> np.ndarray:
        audio_N: np.ndarray = corpus.audio[one.offset + first : one.offset + end]
        return audio_N / np.float32(FULL_SCALE * one.gain)

    known = events if one.labelled else None
    first, end = _bounds(recording, corpus.rate(number), one.n_samples, start_s, end_s, known)
    return Piece(recording, corpus.rate(number), one.n_samples, first, end, known, str(corpus.folder), read, ignored)


def _bounds(
    name: str, rate: int, samples: int, start_s: float | None, end_s: float | None, events: list[Event] | None
) -> tuple[int, int]:
    duration_s = samples / rate
    if start_s is None and end_s is None:
        if duration_s <= WHOLE_S:
            end_s = duration_s
        else:
            onset_s = min((onset_s for _, onset_s, _ in events or [] if onset_s < duration_s), default=0.0)
            if onset_s >= FIRST_S:
                start_s = float(max(0, int(min(onset_s - LEAD_S, duration_s - FIRST_S))))
    begin_s = 0.0 if start_s is None else start_s
    stop_s = min(begin_s + FIRST_S if end_s is None else end_s, duration_s)
    if not 0 <= begin_s < duration_s:
        raise ValueError(f"{name}: start {begin_s:g} s is not in the recording, which is {duration_s:.3f} s long")
    if not begin_s < stop_s:
        raise ValueError(f"{name}: end {stop_s:g} s is not after start {begin_s:g} s")
    first, end = round(begin_s * rate), round(stop_s * rate)
    if end - first < SHORTEST_SAMPLES:
        raise ValueError(f"{name}: {begin_s:g} to {stop_s:g} s has {end - first} samples; choose a longer piece")
    return first, end


def _file_reader(path: Path, channel: int) -> Callable[[int, int], np.ndarray]:
    import soundfile

    def read(first: int, end: int) -> np.ndarray:
        try:
            with soundfile.SoundFile(path) as file:
                file.seek(first)
                audio_NC = file.read(end - first, dtype="float32", always_2d=True)
                rate = file.samplerate
        except (soundfile.LibsndfileError, OSError) as error:
            raise ValueError(f"{path}: is damaged ({error}); choose a piece before {first} samples") from None
        if len(audio_NC) < end - first:
            whole_s = (first + len(audio_NC)) / rate
            raise ValueError(f"{path}: is truncated at {whole_s:.3f} s; choose a piece before that")
        if not np.isfinite(audio_NC[:, channel]).all():
            bad = int(np.flatnonzero(~np.isfinite(audio_NC[:, channel]))[0])
            raise ValueError(f"{path}: holds NaN or infinity at {(first + bad) / rate:.3f} s; choose another piece")
        return np.ascontiguousarray(audio_NC[:, channel])

    return read


@dataclass(frozen=True)
class Picture:
    """What can be seen of a piece: `low` and `high` (K,) the waveform's extremes in each column, `level` (F, K) the
    power in dB, `top_hz` the frequency of its last row."""

    low: np.ndarray
    high: np.ndarray
    level: np.ndarray
    top_hz: float


def picture(piece: Piece, progress: Progress | None = None) -> Picture:
    """Read a piece once, in blocks, and reduce it to columns; `progress(done, total)` counts samples.

    Spectrogram: Hann windows of 20 ms (a quarter of the piece where that is shorter) that overlap by half or more; a
    column shows the loudest of its windows, so that no short call is lost in a long piece.
    """
    total = piece.end - piece.first
    width = 2 ** int(np.ceil(np.log2(max(min(WINDOW_S * piece.rate, total / 4), SHORTEST_SAMPLES / 4))))
    columns = min(COLUMNS, total)
    hop = int(np.clip(total // columns // 4, max(width // 32, 1), width // 2))
    window_N = np.hanning(width + 1)[:-1].astype(np.float32)
    low_K, high_K = np.full(columns, np.inf), np.full(columns, -np.inf)
    power_KF = np.zeros((columns, width // 2 + 1), np.float32)
    for start, block_N in _blocks(piece, width, hop):
        seen, edges = _columns_of(start + np.arange(len(block_N)), total, columns)
        low_K[seen] = np.minimum(low_K[seen], np.minimum.reduceat(block_N, edges))
        high_K[seen] = np.maximum(high_K[seen], np.maximum.reduceat(block_N, edges))
        frames_TN = np.lib.stride_tricks.sliding_window_view(block_N, width)[::hop]
        power_TF = np.abs(np.fft.rfft(frames_TN * window_N, axis=1)).astype(np.float32) ** 2
        seen, edges = _columns_of(start + np.arange(len(frames_TN)) * hop + width // 2, total, columns)
        power_KF[seen] = np.maximum(power_KF[seen], np.maximum.reduceat(power_TF, edges, axis=0))
        if progress:
            progress(start + len(block_N), total)
    filled = np.flatnonzero(power_KF.any(1))
    if 0 < len(filled) < columns:  # between windows, and half a window at both ends: as the nearest one
        right_K = np.searchsorted(filled, np.arange(columns)).clip(0, len(filled) - 1)
        left_K = (right_K - 1).clip(0)
        nearer = np.abs(filled[left_K] - np.arange(columns)) < np.abs(filled[right_K] - np.arange(columns))
        power_KF = power_KF[filled[np.where(nearer, left_K, right_K)]]
    return Picture(low_K, high_K, 10 * np.log10(np.maximum(power_KF.T, 1e-12)), piece.rate / 2)


def _columns_of(samples: np.ndarray, total: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """The columns that ascending sample numbers fall into, each once, and where each begins among them."""
    column = np.minimum(samples * columns // total, columns - 1)
    edges = np.flatnonzero(np.diff(column, prepend=-1))
    return column[edges], edges


def _blocks(piece: Piece, width: int, hop: int) -> Iterator[tuple[int, np.ndarray]]:
    """(start, samples) of blocks that overlap, so that every window of the grid is whole in one of them."""
    total = piece.end - piece.first
    step = (BLOCK_SAMPLES // hop + 1) * hop
    for start in range(0, max(total - width, 1), step):
        yield start, piece.read(piece.first + start, piece.first + min(start + step + width, total))


def preview_figure(piece: Piece, seen: Picture) -> Figure:
    """Waveform, spectrogram, and a lane for each class that sounds in the piece, over the recording's time."""
    events = piece.inside()
    classes = _lanes([label for label, _, _ in events])
    lanes_in = 0.15 * max(len(classes), 1) + 0.1
    heights = [0.75, 1.9, lanes_in]
    figure = new_figure(PAGE_IN, sum(heights) + 0.75)
    wave, spectrum, lanes = figure.subplots(3, 1, sharex=True, height_ratios=heights)
    span = (piece.start_s, piece.end_s)
    edges_K = np.linspace(*span, len(seen.low) + 1)
    middle_K = (edges_K[1:] + edges_K[:-1]) / 2
    wave.fill_between(middle_K, seen.low, seen.high, color=BLUE, linewidth=0.5)
    peak = max(float(np.abs([seen.low, seen.high]).max()), 1e-6)
    wave.set_ylim(-1.05 * peak, 1.05 * peak)
    wave.set_ylabel("Amplitude\n(full scale 1)", fontsize=FONT_PT)
    wave.set_title(_title(piece), fontsize=FONT_PT + 1, loc="left", parse_math=False)
    # The background stays light: white is where most of the picture lies.
    bottom, top = np.percentile(seen.level, [40, 99.8])
    image = spectrum.imshow(
        seen.level, origin="lower", aspect="auto", extent=(*span, 0, seen.top_hz / 1000), cmap="gray_r",
        vmin=bottom, vmax=max(top, bottom + 20),
    )  # fmt: skip
    image.set_rasterized(True)
    spectrum.set_ylabel("Frequency (kHz)", fontsize=FONT_PT)
    for begin, stop in piece.unknown():
        for axis in (wave, lanes):
            axis.axvspan(begin, stop, color="0.88", linewidth=0, zorder=-1)
    _draw_lanes(lanes, piece, events, classes)
    lanes.set_xlim(*span)
    lanes.set_xlabel(f"Time ({clock_axis(lanes, *span)})", fontsize=FONT_PT)
    return finish(figure)


def _draw_lanes(axis: Axes, piece: Piece, events: list[Event], classes: list[str]) -> None:
    for row, name in enumerate(classes):
        bars = [(onset, offset - onset) for label, onset, offset in events if label == name]
        colour = ORANGE if name == FOCAL else BLUE
        # An outline of a third of a point keeps the shortest call of a long piece visible.
        axis.broken_barh(bars, (row - 0.35, 0.7), facecolors=colour, edgecolors=colour, linewidth=0.35)
        axis.axhline(row, color="0.9", linewidth=0.4, zorder=0)
    axis.set_ylim(max(len(classes), 1) - 0.4, -0.6)
    lane_names(axis, range(len(classes)), classes)
    if not classes:
        text = "no labels are known" if piece.events is None else "no event in this piece"
        axis.text(0.5, 0.5, text, transform=axis.transAxes, ha="center", va="center", color="0.4", fontsize=FONT_PT)


def _lanes(labels: list[str]) -> list[str]:
    """The classes of some events: in MeerKAT's order where they are its classes, else sorted, `focal` last."""
    names = set(labels)
    if names <= set(MEERKAT_CLASSES):
        return [name for name in MEERKAT_CLASSES if name in names]
    return [*sorted(names - {FOCAL}), *({FOCAL} & names)]


def _title(piece: Piece) -> str:
    name = piece.name if len(piece.name) <= 70 else f"{piece.name[:34]}…{piece.name[-34:]}"
    whole = piece.first == 0 and piece.end == piece.samples
    start, end, length = (clock(second) for second in (piece.start_s, piece.end_s, piece.duration_s))
    part = length if whole else f"{start} to {end} of {length}"
    return f"{name}: {part}, {piece.rate / 1000:g} kHz"
