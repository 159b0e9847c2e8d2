"""From recordings and annotations to MeerKAT's form: segments of one length, each with its labels.

What is written is described in `prepared.py`, how an interrupted call goes on in `journal.py`. A recording is resampled
as a whole and then cut; its last segment is filled up with zeros. Nothing is clipped: a recording that int16 cannot
hold is scaled, and the gain is written down.
"""

import hashlib
import json
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import Field

from a2v_data.annotations import Annotation
from a2v_data.audio import GONE, AudioError
from a2v_data.conversion import Progress, SourceRecording, counting_seconds, peak_notice
from a2v_data.journal import Entry, Journal, open_journal
from a2v_data.meerkat import MEERKAT_CLASSES, PREPARED_META
from a2v_data.pack import written_labels
from a2v_data.plan import Plan, RecordingConfig, class_order, make_plan, require_any
from a2v_data.prepared import Prepared, PreparedRecording, PreparedSegment, read_prepared, write_tables
from a2v_data.scheduling import Crash, Run, in_this_process
from a2v_data.segmenting import WORK, SegmentNames, SegmentTask, cut_events, segment_recording
from a2v_data.sources import Source
from a2v_data.storage import require_free_space, write_text_aside

LABEL_BYTES, DISK_BLOCK = 12_288, 4096
LONGEST_STEM = 200  # bytes, so that a segment's name fits into a file system's 255
README = """Segments in the form of MeerKAT (arXiv 2406.01253), made by `a2v data prepare`.

wav/            segments, 16-bit PCM
lbl/            HDF5, one for each labelled segment: times in seconds and samples from the segment's start
manifest/       the segments with their lengths in samples
classes.txt     the classes, in the order that lbl_cat counts them, from 0
segments.csv    which recording each segment was cut from, and where it starts in it
recordings.csv  sample rate, length, channel and gain of each recording
unsure.csv      when nobody knows what calls, in seconds of the recording (only where there is such time)
prepare.json    how this folder was made, and what was left out

An event that crosses the border of a segment was cut there. Its pieces have the same number in event_id (counted
within the recording); `a2v data pack` joins them and the segments again.
"""


class PrepareConfig(RecordingConfig):
    """How recordings become segments.

    segment_s: seconds of a segment. random_names: name segments by chance instead of after their recordings
    (`segments.csv` is the key); seed: of these names.
    """

    segment_s: Annotated[float, Field(gt=0, le=86_400)] = 10.0
    random_names: bool = False
    seed: Annotated[int, Field(ge=0)] = 0


@dataclass(frozen=True)
class Preparation:
    """What a call ended with: the folder, and how many of its recordings earlier calls had done."""

    prepared: Prepared
    kept: int


def prepare(
    source: Path | Source,
    out: Path,
    config: PrepareConfig,
    progress: Progress | None = None,
    run: Run = in_this_process,
) -> Preparation:
    """Cut the recordings of `source` into segments under `out`; what an earlier call has done there is kept.

    `progress(done, total)` counts seconds of audio. Recordings that cannot be used are left out and listed, one line
    each, in `Prepared.problems`. A recording that changed since it was done is done again and named in
    `Prepared.notices`. Raises `AnnotationError` for what is wrong in the annotations and belongs to no recording;
    `ValueError` where source, audio or annotations are missing, no recording is good, the disk is too full, or `out`
    holds other things.
    """
    out = Path(out)
    plan = make_plan(source, config)
    if plan.source.config.weak:
        raise ValueError(
            f"{plan.source.config.weak}: recording-level labels do not say in which segment a call is, so a prepared"
            " folder cannot hold them; leave weak (--weak-labels) out, or take the recordings as they are (`a2v data"
            " pack`, a recipe's data.source)"
        )
    if out.resolve().is_relative_to(plan.source.audio_folder.resolve()):
        raise ValueError(f"{out}: lies among the recordings, where it would be found as some; name another folder")
    segment_samples = round(config.segment_s * plan.sample_rate)
    if segment_samples < 1:
        raise ValueError(f"segment_s: {config.segment_s} s holds no sample at {plan.sample_rate} Hz; it must be longer")
    options = {
        "sample_rate": plan.sample_rate,
        "segment_s": config.segment_s,
        "random_names": config.random_names,
        "seed": config.seed if config.random_names else None,
    }
    with open_journal(out, options) as journal:
        call = _Call(plan, out.absolute(), config, segment_samples, journal)
        call.convert(run, progress)
        return call.finish()


class _Call:
    """One call: what is left to do, doing it, and the tables at its end."""

    def __init__(self, plan: Plan, out: Path, config: PrepareConfig, segment_samples: int, journal: Journal) -> None:
        self.plan, self.out, self.config, self.journal = plan, out, config, journal
        self.segment_samples = segment_samples
        self.left_out = dict(plan.left_out)
        self.notices: list[str] = []
        self.converted: set[str] = set()
        self._refuse_removed()
        self.stamps = self._stamps()
        ours = plan.labels <= set(MEERKAT_CLASSES)
        self.classes = MEERKAT_CLASSES if ours else tuple(class_order(plan.labels))
        self.tasks = self._tasks()

    def convert(self, run: Run, progress: Progress | None) -> None:
        """Do what earlier calls have not done."""
        entries = self.journal.entries
        states = {name: self._state(task) for name, task in self.tasks.items()}
        todo = [
            replace(task, audio=states[name] != "labels") for name, task in self.tasks.items() if states[name] != "done"
        ]
        outdated = [entries[name] for name in entries if states.get(name, "left out") not in ("done", "labels")]
        if not todo and not outdated:
            return
        self._require_space(todo)
        (self.out / PREPARED_META).unlink(missing_ok=True)  # from here on the folder is not finished
        for entry in outdated:
            self._remove(entry)
        for folder in (WORK, "wav", "lbl", "manifest"):
            (self.out / folder).mkdir(exist_ok=True)
        todo.sort(key=lambda task: -task.recording.samples)  # the longest first, so that no core waits for it
        advance = counting_seconds([task.recording for task in todo], progress)
        with closing(run(segment_recording, todo, advance)) as results:
            for position, result in results:
                self._record(todo[position], result)
        shutil.rmtree(self.out / WORK, ignore_errors=True)

    def finish(self) -> Preparation:
        """Write the tables that make the folder a prepared one."""
        entries = self.journal.entries
        problems = [self.left_out[name] for name in sorted(self.left_out)]
        require_any(self.plan.source, entries, problems)
        loud = [peak_notice(entry.name, entry.peak) for entry in entries.values() if entry.peak > 1]
        write_text_aside(self.out / "README.txt", README)
        write_tables(
            self.out,
            self.plan.sample_rate,
            self.segment_samples,
            self.classes,
            [self._described(entries[name]) for name in sorted(entries)],
            audio_folder=self.plan.original_audio_folder,
            config={**self.config.model_dump(mode="json"), "labelled": self.plan.rule},
            events=self._count_events(),
            unsure=self.plan.unsure,
            problems=problems,
            notices=[*self.plan.annotations.notices, *self.notices, *loud],
            **({} if (written := written_labels(self.plan, self.config)) is None else {"written": written}),
        )
        prepared = read_prepared(self.out)
        assert prepared is not None
        return Preparation(prepared, len(entries.keys() - self.converted))

    def _refuse_removed(self) -> None:
        names = self.plan.recordings.keys() | self.plan.left_out.keys()
        if removed := sorted(self.journal.entries.keys() - names):
            raise ValueError(
                f"{self.out}: holds {len(removed)} recording(s) that {self.plan.source.folder} no longer has "
                f"(first: {removed[0]}); bring them back or name a new folder"
            )

    def _stamps(self) -> dict[str, str]:
        """Of every recording, before it is read: one that changes meanwhile is done again by the next call. A recording
        that is gone since its header was read is left out."""
        stamps = {}
        for name, recording in self.plan.recordings.items():
            try:
                stamps[name] = _stamp(recording)
            except FileNotFoundError:
                self.left_out[name] = self.plan.problem(name, GONE)
        return stamps

    def _tasks(self) -> dict[str, SegmentTask]:
        rows: dict[str, list[Annotation]] = {}
        for row in self.plan.annotations.rows:
            rows.setdefault(row.file, []).append(row)
        stems = _stems(self.plan.recordings, self.journal.entries)
        return {
            name: SegmentTask(
                recording,
                self._names(name, stems[name]),
                self.out,
                self.plan.sample_rate,
                self.segment_samples,
                self.classes,
                tuple(rows.get(name, ())) if name in self.plan.labelled else None,
            )
            for name, recording in self.plan.recordings.items()
            if name in self.stamps
        }

    def _names(self, recording: str, stem: str) -> SegmentNames:
        return SegmentNames(recording, stem, self.config.seed if self.config.random_names else None)

    def _state(self, task: SegmentTask) -> str:
        """'new', 'changed', 'labels' (they alone are to be written again) or 'done'."""
        entry = self.journal.entries.get(task.recording.name)
        if entry is None:
            return "new"
        if entry.stamp != self.stamps[entry.name]:
            self.notices.append(f"{entry.name}: its file or channel changed since it was prepared; done again")
            return "changed"
        if not all(_size(task.wav(index)) == task.segment_bytes for index in range(task.segments)):
            self.notices.append(f"{entry.name}: segments were missing or cut short; done again")
            return "changed"
        labels = task.events is None or all(task.label(index).is_file() for index in range(task.segments))
        return "done" if labels and entry.labels == _labels_digest(task) else "labels"

    def _require_space(self, todo: list[SegmentTask]) -> None:
        audio = sum(task.segments * _on_disk(task.segment_bytes) for task in todo if task.audio)
        labels = sum(task.segments * LABEL_BYTES for task in todo if task.events is not None)
        require_free_space(self.out, audio + labels + 10_000_000)

    def _remove(self, entry: Entry) -> None:
        """Remove the segments of a recording, then its entry: in the other order a kill would leave files behind."""
        names = self._names(entry.name, entry.stem)
        for index in range(entry.segments):
            for folder, suffix in (("wav", ".wav"), ("lbl", ".h5")):
                (self.out / folder / f"{names(index)}{suffix}").unlink(missing_ok=True)
        self.journal.add(replace(entry, stamp=None))

    def _record(self, task: SegmentTask, result: Any) -> None:
        """Write down what became of one recording."""
        recording, digest = task.recording, _labels_digest(task)
        if isinstance(result, AudioError | Crash):
            self.left_out[recording.name] = self.plan.problem(recording.name, result)
        elif result is None:
            self.journal.add(replace(self.journal.entries[recording.name], labels=digest))
        else:
            self.converted.add(recording.name)
            self.journal.add(
                Entry(
                    recording.name, task.names.stem, task.segments, task.samples, recording.source_rate,
                    recording.source_samples, str(recording.channel), recording.gain * result.gain, result.peak,
                    self.stamps[recording.name], digest,
                )
            )  # fmt: skip

    def _described(self, entry: Entry) -> PreparedRecording:
        names, length = self._names(entry.name, entry.stem), self.segment_samples
        segments = tuple(
            PreparedSegment(f"{names(index)}.wav", index * length, min(length, entry.samples - index * length))
            for index in range(entry.segments)
        )
        return PreparedRecording(
            entry.name, entry.source_rate, entry.source_samples, entry.channel, entry.gain, segments
        )

    def _count_events(self) -> dict[str, Any]:
        """Labelled recordings that are there, their events and classes, and how many events were cut."""
        there = [task for name, task in self.tasks.items() if name in self.journal.entries and task.events is not None]
        classes = sorted({event.label for task in there for event in task.events or ()})
        counts: dict[str, Any] = {"labelled": len(there), "events": 0, "cut": 0, "classes": classes}
        for task in there:
            if task.events:
                pieces = cut_events(task.events, task.segments, self.segment_samples, self.plan.sample_rate)
                numbers = Counter(piece[4] for segment in pieces for piece in segment)
                counts["events"] += len(numbers)
                counts["cut"] += sum(count > 1 for count in numbers.values())
        return counts


def _stems(names: Iterable[str], entries: dict[str, Entry]) -> dict[str, str]:
    """What to name the segments of each recording after: its own name, made unique and short enough."""
    stems = {name: entry.stem for name, entry in entries.items()}
    taken = {_key(stem) for stem in stems.values()}
    for name in names:
        if name in stems:
            continue
        path = PurePosixPath(name)
        stem = path.stem.encode()[:LONGEST_STEM].decode("utf-8", "ignore")
        if stem != path.stem or _key(str(path.with_name(stem))) in taken:
            stem += "-" + hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
        stems[name] = str(path.with_name(stem))
        taken.add(_key(stems[name]))
    return stems


def _key(stem: str) -> str:
    """Equal for names that some file system takes for the same."""
    return unicodedata.normalize("NFC", stem).casefold()


def _stamp(recording: SourceRecording) -> str:
    """Digest of sizes and times of the recording's files, and of the channel."""
    states = [path.stat() for path, _ in recording.parts]
    return _digest([str(recording.channel), *((state.st_size, state.st_mtime_ns) for state in states)])


def _labels_digest(task: SegmentTask) -> str | None:
    if task.events is None:
        return None
    rows = sorted((event.onset_s, event.offset_s, event.label, event.focal) for event in task.events)
    return _digest([task.classes, rows])


def _digest(value: object) -> str:
    return hashlib.blake2b(json.dumps(value).encode(), digest_size=16).hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _on_disk(size: int) -> int:
    return -(-size // DISK_BLOCK) * DISK_BLOCK
