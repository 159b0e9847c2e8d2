"""Is a copy of MeerKAT, or a corpus of its layout, whole and consistent?

Only headers, label files and manifests are read, never samples, in parallel processes. Whatever is wrong with one file
is a `Problem`, and the others are still looked at.

What counts as labelled, `labelled.py` says: in MeerKAT as published the segments with events (66 398 of 384 592),
though every one has a label file; in a folder that `prepare.py` wrote those with a label file, an empty one too. A
recording without a label file is a notice, and a problem only where a train or valid manifest lists it. A label file
without its recording is a problem.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotations import Annotations
from a2v_data.audio import AudioError, AudioInfo, read_info
from a2v_data.check_labels import check_labels
from a2v_data.check_manifests import check_manifests
from a2v_data.check_problem import Expected, Problem, shown
from a2v_data.label_sets import Found as OfClass
from a2v_data.label_sets import class_notices
from a2v_data.labelled import (
    LabelledRule,
    LabelledSetting,
    labelled_line,
    labelled_names,
    labelled_notice,
    labelled_rule,
    says_who_listened,
    weak_line,
)
from a2v_data.meerkat import LABEL_SUFFIXES
from a2v_data.prepared import read_prepared
from a2v_data.recording_names import left_out_names
from a2v_data.regions import region_tables
from a2v_data.scheduling import Advance, Crash, in_this_process, on_cores

Progress = Callable[[int, int], None]
_Pair = tuple[str, str | None]  # a recording and its label file, by their paths in wav/ and lbl/
CHUNK = 256  # recordings that travel to a process together: many small files cost more to send than to read
PUBLISHED_FILES, PUBLISHED_LABELLED = 384_592, 66_398


@dataclass(frozen=True)
class CheckReport:
    """What was found. `labelled` recordings are so by `rule`; `label_files` have a label file, `with_events` one that
    is not empty. meerkat: in its layout; else `label_files` are tables (check_source.py).
    warnings: classes that cannot be learned. weak: recordings that are labelled as a whole only."""

    root: Path
    files: int
    seconds: float
    rule: LabelledRule
    labelled: int
    labelled_seconds: float
    label_files: int
    with_events: int
    events: int
    problems: list[Problem]
    notices: list[str]
    meerkat: bool = True
    warnings: list[str] = field(default_factory=list)
    weak: int = 0

    @property
    def by_kind(self) -> dict[str, int]:
        """Problems of each kind, the most frequent first."""
        return dict(Counter(problem.kind for problem in self.problems).most_common())

    def labelled_line(self) -> str:
        """One line: how many are labelled, and by which rule."""
        unit = "segments" if self.meerkat else "recordings"
        line = labelled_line(self.labelled, self.files, self.rule, self.meerkat, unit)
        return f"{line}; {weak_line(self.weak)}" if self.weak else line

    def summary(self) -> str:
        """One line: files, hours, labelled, problems by kind."""
        head = (
            f"{self.files} recordings, {self.seconds / 3600:.2f} h; labelled {self.labelled}, "
            f"{self.labelled_seconds / 3600:.2f} h, {self.events} events; "
        )
        if not self.problems:
            return head + "no problems"
        files = len({problem.file for problem in self.problems})
        kinds = ", ".join(f"{kind} {count}" for kind, count in self.by_kind.items())
        return f"{head}{len(self.problems)} problems in {files} files: {kinds}"

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return {
            "root": shown(str(self.root)),
            "recordings": self.files,
            "hours": self.seconds / 3600,
            "labelled_rule": self.rule,
            "labelled": self.labelled,
            "labelled_hours": self.labelled_seconds / 3600,
            "label_files": self.label_files,
            "with_events": self.with_events,
            "events": self.events,
            "problems_by_kind": self.by_kind,
            "problems": [asdict(problem) for problem in self.problems],
            "notices": self.notices,
            "warnings": self.warnings,
            **({"weak_recordings": self.weak} if self.weak else {}),
        }


@dataclass(frozen=True, slots=True)
class _Found:
    """One recording: its samples (None where unreadable), its number of events (None without a label file), how many
    each label has, and what is odd about it though nothing is wrong."""

    samples: int | None
    seconds: float
    events: int | None
    problems: tuple[Problem, ...]
    labels: Counter[str]
    notice: str = ""


def check(
    root: Path,
    expected: Expected | None = None,
    manifests: Path | None = None,
    jobs: int = 1,
    published: bool = False,
    progress: Progress | None = None,
    labelled: LabelledSetting = "auto",
) -> CheckReport:
    """Check wav/, lbl/ and manifest/ under `root`; `progress(done, total)` counts recordings.

    expected: rate, length and classes (None: as published). manifests: their folder, where it is not root/manifest.
    jobs: processes that read. published: the numbers of files must be those of the published corpus too. labelled: as
    in `RecordingConfig`; a segment that is not labelled though it has a label file is a notice. Raises `ValueError`
    where `root` has no wav/ with recordings.
    """
    root, expected = Path(root), expected or Expected()
    wav, lbl = root / "wav", root / "lbl"
    manifests = manifests or root / "manifest"
    if not wav.is_dir():
        raise ValueError(f"{root}: no folder wav/, as a copy of MeerKAT has it with lbl/ and manifest/, nor recordings")
    names, others = _files(wav, (".wav",))
    if not names:
        raise ValueError(f"{wav}: no WAV in it; a copy of MeerKAT has one for each segment")
    labels, _ = _files(lbl, LABEL_SUFFIXES)
    problems = [
        Problem("layout", folder.name, "", f"is no folder; a copy as published has {part}")
        for folder, part in ((lbl, "one label file per labelled segment there"), (manifests, "manifests there"))
        if not folder.is_dir()
    ]
    pairs, orphans = _paired(names, labels)
    found = _found(root, expected, pairs, jobs, progress)
    problems += [problem for one in found for problem in one.problems] + orphans
    notices = [f"{len(others)} files in wav/ are no WAV, the first is {shown(others[0])}"] if others else []
    notices += [f"wav/{shown(name)} {reason}" for name, reason in left_out_names(wav, others)]
    notices += [f"wav/{shown(name)} {one.notice}" for name, one in zip(names, found, strict=True) if one.notice]
    listened = Annotations(
        lbl,
        (),
        frozenset(name for name, one in zip(names, found, strict=True) if one.events is not None),
        with_events=_with_events(root, {name: bool(one.events) for name, one in zip(names, found, strict=True)}),
    )
    rule = labelled_rule(labelled, root, AnnotationConfig())
    chosen = labelled_names(rule, set(names), listened)
    files, with_events = len(listened.annotated), sum(bool(one.events) for one in found)
    if files < len(names) and rule != "all":
        notices.append(f"{len(names) - files} recordings have no label file: they count as not labelled")
    notice = None if says_who_listened(root) else labelled_notice(rule, len(names), files, files - with_events)
    notices += [notice] if notice else []
    if region_tables(root, None, deep=False):
        told = "here segments count whole, `a2v data stats` counts the parts"
        notices.append(f"regions.csv says which parts were annotated; {told}")
    if manifests.is_dir():
        samples = {name: one.samples for name, one in zip(names, found, strict=True)}
        more_problems, more_notices = check_manifests(
            manifests, wav, samples, {*listened.annotated, *chosen}, listened.annotated - chosen
        )
        problems, notices = problems + more_problems, notices + more_notices
    if published:
        problems += _against_published(len(names), files, with_events)
    return CheckReport(
        root=root,
        files=len(names),
        seconds=sum(one.seconds for one in found),
        rule=rule,
        labelled=len(chosen),
        labelled_seconds=sum(one.seconds for name, one in zip(names, found, strict=True) if name in chosen),
        label_files=files,
        with_events=with_events,
        events=sum(one.events or 0 for one in found),
        problems=problems,
        notices=notices,
        warnings=_class_notices(root, names, found),
    )


def _class_notices(root: Path, names: Sequence[str], found: Sequence[_Found]) -> list[str]:
    """Which classes cannot be learned; segments of a prepared folder are those of their recording."""
    prepared = read_prepared(root)
    recordings = prepared.recordings.values() if prepared else ()
    belongs = {segment.name: recording.name for recording in recordings for segment in recording.segments}
    events: Counter[str] = Counter()
    places: dict[str, set[str]] = {}
    for name, one in zip(names, found, strict=True):
        events.update(one.labels)
        for label in one.labels:
            places.setdefault(label, set()).add(belongs.get(name, name))
    classes = {label: OfClass(events[label], len(places[label])) for label in events}
    return class_notices(classes, len(set().union(*places.values())))


def _with_events(root: Path, has_events: dict[str, bool]) -> frozenset[str]:
    """Segments with events; of a prepared folder, in which packing joins them, all segments of a recording with any."""
    prepared = read_prepared(root)
    segments = {name for name, has in has_events.items() if has}
    for recording in prepared.recordings.values() if prepared else ():
        own = {segment.name for segment in recording.segments}
        segments |= own & has_events.keys() if own & segments else set()
    return frozenset(segments)


def _files(folder: Path, suffixes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Relative paths of everything named like a file of `suffixes` (folders too), and of the other files."""
    found, others = [], []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        inside = os.path.relpath(parent, folder)
        for name in [*folders, *files]:
            if name.startswith("."):
                continue
            path = name if inside == "." else f"{inside}/{name}"
            if name.lower().endswith(tuple(suffixes)):
                found.append(path)
            elif name in files:
                others.append(path)
    return sorted(found), sorted(others)


def _paired(names: list[str], labels: list[str]) -> tuple[list[_Pair], list[Problem]]:
    """Each recording with its label file, and problems for label files that are left."""
    by_stem: dict[str, list[str]] = {}
    for label in labels:
        by_stem.setdefault(str(PurePosixPath(label).with_suffix("")), []).append(label)
    pairs: list[_Pair] = []
    problems = []
    for name in names:
        own = by_stem.pop(str(PurePosixPath(name).with_suffix("")), [])
        pairs.append((name, own[0] if own else None))
        problems += [Problem("two label files", f"lbl/{shown(other)}", "", f"besides {own[0]}") for other in own[1:]]
    for stem, left in by_stem.items():
        message = f"its recording wav/{shown(stem)}.wav does not exist"
        problems += [Problem("no recording", f"lbl/{shown(label)}", "", message) for label in left]
    return pairs, problems


def _found(
    root: Path, expected: Expected, pairs: Sequence[_Pair], jobs: int, progress: Progress | None
) -> list[_Found]:
    """What was found of every recording, in their order. `ValueError` where a process that read was killed."""
    chunks = [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]
    done = 0.0

    def advance(amount: float) -> None:
        nonlocal done
        done += amount
        if progress and amount:
            progress(round(done), len(pairs))

    run = on_cores(jobs) if len(chunks) > 2 else in_this_process  # to start processes for fewer takes longer
    found: dict[int, list[_Found]] = {}
    for position, result in run(partial(_check_chunk, root, expected), chunks, advance):
        if isinstance(result, Crash):
            raise ValueError("a reading process was killed (out of memory?); run again with one job")
        found[position] = result
    return [one for position in range(len(chunks)) for one in found[position]]


def _check_chunk(root: Path, expected: Expected, pairs: Sequence[_Pair], advance: Advance) -> list[_Found]:
    found = [_check_recording(root, expected, name, label) for name, label in pairs]
    advance(len(pairs))
    return found


def _check_recording(root: Path, expected: Expected, name: str, label: str | None) -> _Found:
    info, problems = _check_wav(root / "wav" / name, f"wav/{shown(name)}", expected)
    samples = info.samples if info else None
    events = None
    labels: Counter[str] = Counter()
    if label is not None:
        # Where the WAV itself is wrong, its labels are held against what it should be.
        there, wrong = check_labels(root / "lbl" / label, f"lbl/{shown(label)}", samples or expected.samples, expected)
        events, labels = len(there), Counter(there)
        problems += wrong
    seconds, notice = (info.duration_s, info.notice) if info else (0.0, "")
    return _Found(samples, seconds, events, tuple(problems), labels, notice)


def _check_wav(path: Path, name: str, expected: Expected) -> tuple[AudioInfo | None, list[Problem]]:
    """The header of one WAV, None where it has none, and what is wrong with it."""
    if any(ord(character) < 32 for character in path.name):
        return None, [Problem("name", name, "", "has a tab or line break in it; no manifest can hold it")]
    try:
        info = read_info(path)
        with path.open("rb") as file:
            magic = file.read(12)
    except AudioError as error:
        return None, [Problem("recording", name, "", str(error))]
    except OSError as error:
        return None, [Problem("recording", name, "", f"cannot be read ({error.strerror})")]
    problems = []
    if magic[:4] not in (b"RIFF", b"RF64") or magic[8:] != b"WAVE":
        problems.append(Problem("format", name, "", "is not a WAV, whatever its name says"))
    if info.rate != expected.sample_rate:
        problems.append(Problem("rate", name, "", f"is at {info.rate} Hz, not {expected.sample_rate}"))
    if info.samples != expected.samples:
        problems.append(Problem("length", name, "", f"has {info.samples} samples, not {expected.samples}"))
    if info.subtype != "PCM_16":
        problems.append(Problem("bit depth", name, "", f"is {info.subtype}, not 16 bit (PCM_16)"))
    if info.channels != 1:
        problems.append(Problem("channels", name, "", f"has {info.channels} channels, not 1"))
    return info, problems


def _against_published(files: int, label_files: int, with_events: int) -> list[Problem]:
    problems = []
    if files != PUBLISHED_FILES:
        problems.append(Problem("published", "wav", "", f"has {files} recordings, {PUBLISHED_FILES} were published"))
    if with_events != PUBLISHED_LABELLED:
        message = f"has {label_files} label files, {with_events} with events; {PUBLISHED_LABELLED} were published"
        problems.append(Problem("published", "lbl", "", message))
    return problems
