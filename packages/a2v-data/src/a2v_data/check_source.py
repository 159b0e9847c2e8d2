"""Is a folder of recordings with tables whole? Headers and tables are read, never samples.

What `check.py` does for MeerKAT's layout: everything that is wrong is a `Problem`, and the rest is still looked at.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotation_tables import AnnotationReport, overlapping_events
from a2v_data.annotations import Annotations
from a2v_data.audio import AudioError, AudioInfo, read_info
from a2v_data.check import CheckReport
from a2v_data.check_problem import Problem, shown
from a2v_data.intervals import IGNORED
from a2v_data.label_sets import class_notices, counts
from a2v_data.labelled import LabelledSetting, labelled_names, labelled_rule
from a2v_data.outside import within
from a2v_data.plan import HEADER_THREADS, check_name
from a2v_data.prepared import read_prepared
from a2v_data.recording_names import recording_names
from a2v_data.regions import Unsure, outside_recordings, region_notices, sure
from a2v_data.sources import has_meerkats_layout, open_source
from a2v_data.unheard import unheard_labels

Progress = Callable[[int, int], None]


def is_source(root: Path, annotations: AnnotationConfig | None = None) -> bool:
    """Whether a folder holds recordings as a user has them, not in MeerKAT's layout (nor a copy of that with a part
    missing)."""
    config = annotations or AnnotationConfig()
    if not root.is_dir() or read_prepared(root) or has_meerkats_layout(root, config):
        return False
    if not (root / "wav").is_dir():
        return bool(recording_names(_audio_folder(root)))
    try:
        return open_source(root, config).form != "meerkat"
    except ValueError:
        return False


def check_source(
    root: Path,
    labelled: LabelledSetting = "auto",
    annotations: AnnotationConfig | None = None,
    sample_rate: int = 8000,
    progress: Progress | None = None,
) -> CheckReport:
    """Check all recordings under `root` and the tables that belong to them; `progress(done, total)` counts recordings.

    labelled, annotations: as in `RecordingConfig`. sample_rate: Hz, at which a model will hear them; labels above half
    of it are a notice. Without tables the recordings alone are checked. Raises `ValueError` where there are none, or no
    table where `annotations` says which to read.
    """
    root, config = Path(root), annotations or AnnotationConfig()
    report, notices = AnnotationReport(), []
    try:
        source = open_source(root, config)
        names, folder = source.names, source.audio_folder
        report = source.read()
        notices += [f"{name} is not read: {reason}" for name, reason in source.not_used()]
    except ValueError as error:
        folder = _audio_folder(root)
        names = recording_names(folder)
        if not names or config.model_fields_set:
            raise
        notices.append(f"nothing is labelled: {str(error).removeprefix(f'{root}: ')}")
    found: dict[str, AudioInfo | AudioError] = {}
    with ThreadPoolExecutor(HEADER_THREADS) as pool:
        for name, one in zip(names, pool.map(lambda name: _header(folder, name), names), strict=True):
            found[name] = one
            if progress:
                progress(len(found), len(names))
    headers = {name: one for name, one in found.items() if isinstance(one, AudioInfo)}
    problems = [Problem("recording", shown(name), "", str(e)) for name, e in found.items() if isinstance(e, AudioError)]
    ends = {name: info.duration_s for name, info in headers.items()}
    inside = within(report.rows, ends, config.outside)
    wrong = [line for of in (inside.wrong, outside_recordings(report.regions or {}, ends)) for line in of.values()]
    problems += [_of_table(line) for line in (*report.problems, *(line for lines in wrong for line in lines))]
    known = sure(inside.rows, report.regions, ends)
    rates = Counter(info.rate for info in headers.values())
    if len(rates) > 1:
        told = ", ".join(f"{count} at {rate} Hz" for rate, count in sorted(rates.items()))
        notices.append(f"the recordings have several sample rates: {told}")
    unheard = unheard_labels(report.rows, {name: info.rate for name, info in headers.items()}, sample_rate)
    notices += [*report.notices, *inside.notices, *([unheard] if unheard else [])]
    notices += region_notices(report.regions, report.annotated, known, ends)
    notices += [
        f"{label}: events that overlap an earlier one, with which they are merged: {count}"
        for label, count in overlapping_events(report.rows).items()
    ]
    rule = labelled_rule(labelled, root, config)
    listened = Annotations(root, (), frozenset(report.annotated), with_events=frozenset(report.with_events))
    chosen = labelled_names(rule, set(names), listened)
    if report.regions is not None:
        chosen = frozenset(report.regions.keys() & set(names))
    elif rule == "all":
        chosen -= report.weak.keys() - report.annotated
    weak = {name: labels for name, labels in report.weak.items() if name in headers and name not in chosen}
    classes = [(row.label, row.file) for row in known.rows]
    classes += [(label, name) for name, labels in weak.items() for label in labels]
    ignored_s = {name: _ignored_s(of) for name, of in known.unsure.items()}
    return CheckReport(
        root=root,
        files=len(names),
        seconds=sum(info.duration_s for info in headers.values()),
        rule=rule,
        labelled=len(chosen),
        labelled_seconds=sum(end_s - ignored_s.get(name, 0.0) for name, end_s in ends.items() if name in chosen),
        label_files=len(report.tables),
        with_events=len(report.with_events),
        events=len(report.rows),
        problems=problems,
        notices=notices,
        meerkat=False,
        warnings=class_notices(counts(classes), len(report.annotated | weak.keys())),
        weak=len(weak),
    )


def _ignored_s(unsure: Sequence[Unsure]) -> float:
    return sum(offset_s - onset_s for kind, onset_s, offset_s in unsure if kind == IGNORED)


def _audio_folder(root: Path) -> Path:
    return next((root / name for name in ("audio", "wav") if (root / name).is_dir()), root)


def _header(folder: Path, name: str) -> AudioInfo | AudioError:
    try:
        check_name(name)
        return read_info(folder / name)
    except AudioError as error:
        return error


def _of_table(line: str) -> Problem:
    """'monday.txt, row 3: ends before it starts' as table, place and what is wrong."""
    place, _, message = line.partition(": ")
    if not message:
        return Problem("annotation", "", "", line)
    file, _, where = place.rpartition(", ")
    return Problem("annotation", shown(file or where), where if file else "", message)
