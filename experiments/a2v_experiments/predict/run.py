"""Calls in many recordings: what is left to do, doing it on every core or a cluster, and the tables at its end.

How an interrupted call goes on is said in `state.py`. A recording's pieces are worked on anywhere and in any
order (`work.py`); when all of them are there, its events are found and its tables are written, here. A
recording that cannot be used is left out and named; the others are not harmed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from a2v_data.annotation_writers import EventRow
from a2v_data.audio import GONE, AudioError
from a2v_data.scheduling import Crash, Run
from a2v_data.storage import require_free_space
from a2v_data.streams.folder import RecordingTable
from a2v_eval.learned import class_fits
from a2v_model import Detector
from a2v_model.plugins import loaded_digests
from numpy.typing import NDArray

from ..inference import Windows
from .extremes import extreme_rows, untrained_notice
from .options import Choice
from .outputs import Predicted, combined_path, missing_tables, table_path, write_combined, write_table
from .plan import Recording, read_headers
from .settings import PredictSettings
from .state import Done, State, open_state, stamp_of
from .stream import Spent, piece_size, windows_of
from .summary import Summary, write_summary
from .tasks import JoinedTasks, PieceTasks
from .tracks import (
    Track,
    embeddings_path,
    likelihoods_path,
    write_event_embeddings,
    write_frame_embeddings,
    write_likelihoods,
)
from .work import LEFT_OUT, Found, PieceTask, find_in, piece_windows, predict_piece, read_pieces


@dataclass(frozen=True)
class Job:
    """What a call is to do. model: a detector, folder: where it lies, model_name: what tables call it, digest: of its
    weights. settings: what the model makes of those that were chosen. not_learned: classes that are not written for
    that, with why. notices: what is known before the call. streams: recording -> the table with what was recorded
    beside it."""

    model: Detector
    folder: Path
    model_name: str
    digest: str
    settings: PredictSettings
    choice: Choice
    not_learned: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()
    streams: Mapping[str, RecordingTable] = field(default_factory=dict)

    def options(self) -> dict[str, Any]:
        """What decides the results: see `state`."""
        return {
            "model": self.digest,
            "channel": str(self.choice.channel),
            **self.settings.model_dump(mode="json"),
            "likelihoods": self.choice.likelihoods,
            "embeddings": self.choice.embeddings,
        }


class Progress(Protocol):
    """Told what is done: `progress.HoursBar`."""

    def begin(self, recordings: int, seconds: float) -> None: ...
    def advance(self, seconds: float) -> None: ...
    def recording(self) -> None: ...


def run_predictions(found: dict[str, Path], out: Path, job: Job, run: Run, progress: Progress) -> Summary:
    """Find the calls in recordings (name -> path) and write them to `out`; what earlier calls did there is kept.

    Raises UserError or ValueError where `out` was begun with other options, holds other things or another call is
    writing there, or where its disk is too full.
    """
    with open_state(out, job.options()) as state:
        named = state.names(found)
        own = {path: name for name, path in found.items()}
        streams = {name: job.streams[own[path]] for name, path in named.items() if own[path] in job.streams}
        call = _Call(named, out, replace(job, streams=streams), state, progress)
        call.work(run)
        return call.finish()


@dataclass
class _Open:
    """A recording that is being done. stamp: of its file; pieces: of what its pieces hold for, its streams too."""

    recording: Recording
    windows: Windows
    stamp: str
    pieces: str
    tasks: PieceTasks
    left: int = 0
    spent: Spent = field(default_factory=Spent)
    found: Found | None = None


class _Call:
    """One call."""

    def __init__(self, found: dict[str, Path], out: Path, job: Job, state: State, progress: Progress) -> None:
        self.out, self.job, self.choice, self.state, self.progress = out, job, job.choice, state, progress
        self.begun = time.monotonic()
        self.notices: list[str] = list(job.notices)
        self.new: list[str] = []
        self.without_values: set[str] = set()
        self.given, self.plugins = list(found), loaded_digests(job.model.plugins)
        self.good, self.left_out = read_headers(found, job.choice.channel)
        self.stamps = self._stamps()
        self.open = {name: self._opened(recording) for name, recording in self.good.items() if self._to_do(recording)}

    def work(self, run: Run) -> None:
        """Do what earlier calls have not done."""
        self._refresh_tables()
        self.state.remove_pieces_but({one.pieces for one in self.open.values()})
        to_do = [(one.tasks, one.tasks.left()) for one in self.open.values()]
        tasks = JoinedTasks(to_do)
        for one, (_, numbers) in zip(self.open.values(), to_do, strict=True):
            one.left = len(numbers)
            (self.state.pieces(one.pieces) / LEFT_OUT).unlink(missing_ok=True)
        self.progress.begin(len(self.open), tasks.seconds)
        if self.open:
            self._require_space()
            for format_ in ("csv", *self.choice.formats):  # from here on they would be out of date
                if path := combined_path(self.out, format_):
                    path.unlink(missing_ok=True)
        for one in list(self.open.values()):
            if not one.left:
                self._finish_recording(one)
        with closing(run(predict_piece, tasks, self.progress.advance)) as results:
            for position, result in results:
                self._take(self.open.get(tasks[position].name), result)

    def finish(self) -> Summary:
        """Tables of all recordings, and what became of each."""
        self.state.remove_pieces_but(set())
        for name in sorted(self.left_out.keys() & self.state.done.keys()):
            self.notices.append(f"{name}: what is kept of it was found in its file as that was before")
        if self.without_values:
            self.notices.append(
                f"streams: {len(self.without_values)} recordings have no value within them (first:"
                f" {min(self.without_values)}) and are heard without; times must be seconds from the recording's start"
            )
        names = sorted(self.state.done)
        starts_s = np.cumsum([0.0, *(self.state.done[name].duration_s for name in names)]).tolist()
        for format_ in dict.fromkeys(("csv", *self.choice.formats)):
            if path := combined_path(self.out, format_):
                recordings = (
                    self._predicted(self.state.done[name], self.state.events(name), start_s)
                    for name, start_s in zip(names, starts_s, strict=False)
                )
                write_combined(path, format_, recordings)
        done = {name: self.state.done[name] for name in names}
        model, recordings_done = self.job.model, list(done.values())
        fits = class_fits(model.classes, model.thresholds, model.thresholds_from)
        self.notices[:0] = untrained_notice(recordings_done, [name for name, fit in fits.items() if fit.learned])
        likelihoods = extreme_rows(recordings_done, model.classes, self.job.settings, self.job.not_learned)
        summary = Summary(
            self.job.model_name, self.job.options(), done, self.new, self.given, self.left_out, self.notices,
            time.monotonic() - self.begun, model.sample_rate, dict(self.job.not_learned), likelihoods,
            {name: one.info.notice for name, one in self.good.items() if one.info.notice and name in done},
        )  # fmt: skip
        write_summary(self.out, summary)
        return summary

    def _stamps(self) -> dict[str, str]:
        """Of every recording that can be read. One that is gone since its header was read is left out."""
        stamps = {}
        for name, recording in list(self.good.items()):
            try:
                stamps[name] = stamp_of(recording, self.choice.channel)
            except FileNotFoundError:
                del self.good[name]
                self.left_out[name] = GONE
        return stamps

    def _to_do(self, recording: Recording) -> bool:
        done = self.state.done.get(recording.name)
        if done is None:
            return True
        if done.stamp != self.stamps[recording.name]:
            self.notices.append(f"{recording.name}: its file changed since it was done; done again")
            return True
        if done.streams != self._stream_stamp(recording.name):
            self.notices.append(f"{recording.name}: its streams changed since it was done; done again")
            return True
        if any(not path.is_file() for path in [*self._tracks(recording.name), self.state.events_path(recording.name)]):
            self.notices.append(f"{recording.name}: what was kept of it is missing; done again")
            return True
        return False

    def _stream_stamp(self, name: str) -> str:
        table = self.job.streams.get(name)
        return "" if table is None else "-".join(map(str, table.stamp))

    def _tracks(self, name: str) -> list[Path]:
        choice = self.choice
        tracks = [likelihoods_path(self.out, choice.likelihoods, name)] if choice.likelihoods else []
        return tracks + ([embeddings_path(self.out, choice.embeddings, name)] if choice.embeddings else [])

    def _opened(self, recording: Recording) -> _Open:
        job, choice, info = self.job, self.choice, recording.info
        windows = windows_of(info, job.model, job.settings)
        stamp = self.stamps[recording.name]
        size = piece_windows(info, windows, piece_size(job.settings, choice.device))
        beside = self._stream_stamp(recording.name)
        pieces = f"{stamp}-{beside}" if beside else stamp
        folder = self.state.pieces(pieces).absolute()
        whole = PieceTask(
            recording.name, recording.path, info, windows, (0, len(windows)), size, folder,
            job.folder, job.settings, choice, info.duration_s, self.plugins, job.streams.get(recording.name),
        )  # fmt: skip
        return _Open(recording, windows, stamp, pieces, PieceTasks(whole))

    def _require_space(self) -> None:
        """For what is kept, and for the pieces of the two longest recordings."""
        config = self.job.model.model_config
        wide, deep = 4 * self.job.model.columns, 4 * config.encoder.dim * (self.choice.embeddings is not None)
        frames = sorted((one.windows.frames for one in self.open.values()), reverse=True)
        kept = wide * (self.choice.likelihoods is not None) + deep * (self.choice.embeddings == "frames")
        require_free_space(self.out, sum(frames) * kept + sum(frames[:2]) * (wide + deep) + 10_000_000)

    def _take(self, one: _Open | None, result: Any) -> None:
        """What came of a piece; one: its recording, None where that is left out by now."""
        if one is None or result is None:
            return
        if isinstance(result, AudioError | Crash):
            self._leave_out(one, str(result) if isinstance(result, AudioError) else result.message)
            return
        if result.without_values:
            self.without_values.add(one.recording.name)
        one.spent.all_s += result.all_s
        one.spent.model_s += result.model_s
        one.left -= 1
        one.found = result.found or one.found
        if not one.left:
            self._finish_recording(one)

    def _leave_out(self, one: _Open, reason: str) -> None:
        self.left_out[one.recording.name] = reason
        self.open.pop(one.recording.name)
        folder = self.state.pieces(one.pieces)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / LEFT_OUT).touch()
        self.progress.recording()

    def _finish_recording(self, one: _Open) -> None:
        """Events, tables and tracks of a recording whose pieces are all there; then it is written down as done."""
        begun = time.monotonic()
        job, choice, recording, name = self.job, self.choice, one.recording, one.recording.name
        pieces, classes = one.tasks.whole.of_all, job.model.classes
        blocks = partial(read_pieces, pieces)
        features = partial(read_pieces, [task.features for task in one.tasks] if choice.embeddings else [])
        frame_rate = job.model.for_rate(one.recording.info.rate).frame_rate
        found = one.found or find_in(pieces, frame_rate, classes, job.settings)
        events, counts = found.events, np.bincount(found.events["class"], minlength=len(classes)).tolist()
        info = recording.info
        done = Done(
            name, str(recording.path), one.stamp, info.rate, info.samples, info.channels,
            dict(zip(classes, counts, strict=True)), one.spent.all_s, one.spent.model_s, found.likelihoods,
            self._stream_stamp(name),
        )  # fmt: skip
        predicted = self._predicted(done, events)
        for format_ in choice.formats:
            write_table(table_path(self.out, format_, name), format_, predicted)
        track = Track(name, one.windows.frames, frame_rate, tuple(classes), job.model_name)
        if choice.likelihoods:
            write_likelihoods(likelihoods_path(self.out, choice.likelihoods, name), choice.likelihoods, track, blocks)
        if choice.embeddings == "frames":
            write_frame_embeddings(embeddings_path(self.out, "frames", name), track, features)
        if choice.embeddings == "events":
            path = embeddings_path(self.out, "events", name)
            write_event_embeddings(path, track, features, events, predicted.events)
        done = replace(done, seconds=done.seconds + time.monotonic() - begun)
        self.state.add(done, events)
        self.new.append(name)
        self.open.pop(name)
        shutil.rmtree(self.state.pieces(one.pieces), ignore_errors=True)
        self.progress.recording()

    def _refresh_tables(self) -> None:
        """Tables of what was done before, in formats that it does not have yet, or that somebody removed."""
        for name in self.good.keys() - self.open.keys():
            if formats := missing_tables(self.out, self.choice.formats, name):
                predicted = self._predicted(self.state.done[name], self.state.events(name))
                for format_ in formats:
                    write_table(table_path(self.out, format_, name), format_, predicted)

    def _predicted(self, done: Done, events: NDArray[np.void], start_s: float = 0.0) -> Predicted:
        classes, settings = self.job.model.classes, self.job.settings
        rows = [
            EventRow(
                done.name, float(event["onset_s"]), float(event["offset_s"]), label,
                likelihood=float(event["likelihood"]), threshold=settings.threshold(label), model=self.job.model_name,
            )
            for event in events
            for label in [classes[event["class"]]]
        ]  # fmt: skip
        return Predicted(done.name, done.duration_s, done.rate / 2, rows, start_s, self.choice.channel)
