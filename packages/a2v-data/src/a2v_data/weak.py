"""Recording-level ("weak") labels: which classes call in a recording, and not when.

A table has one row for each recording or clip: with a column for each class that holds 0 or 1 (AnuraSet), or with a
list of classes in one column (xeno-canto and most citizen science). Several rows of one recording add up, so that a
table of its parts says what calls in the whole of it. A row without any class says that nothing calls in it.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from a2v_data.annotation_config import AnnotationConfig
from a2v_data.audio import AUDIO_SUFFIXES
from a2v_data.formats.table import Cells, Header, TableError, grid, read_text, whole_rows
from a2v_data.recording_names import RecordingNames, composed

FILE_COLUMNS = (
    "file", "filename", "file_name", "sample_name", "clip", "recording", "audio_file", "wav", "path", "fname", "name",
    "id",
)  # fmt: skip
LIST_COLUMNS = ("labels", "classes", "species", "label", "class", "primary_label")
FURTHER_COLUMNS = ("also", "secondary_labels")
TIME_COLUMNS = ("onset_s", "offset_s", "start (s)", "begin time (s)", "start_time_lbl")
NO_CLASSES = frozenset(("", "unnamed: 0", "index", "fold", "split", "subset", "species_number", "min_t", "max_t"))
PRESENT, ABSENT = frozenset(("1", "1.0", "true", "yes", "x")), frozenset(("0", "0.0", "false", "no"))
NOTHING = frozenset(("", "nocall", "no call", "none", "nan", "na", "-"))
UNKNOWN = frozenset(("?", "ignore"))
MOSTLY = 0.9  # of a column's cells are 0 or 1: a class, and what else stands there is a mistake
SHOWN = 3


@dataclass(frozen=True, slots=True)
class WeakLabel:
    """One class that calls in recording `file`; `where` is for messages."""

    file: str
    label: str
    where: str


@dataclass
class WeakTable:
    """What a table of recording-level labels says: the recordings that it knows, their labels, what is worth knowing,
    and one line for everything that is wrong."""

    shown: str
    recordings: list[str] = field(default_factory=list)
    labels: list[WeakLabel] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def written(self) -> dict[str, tuple[str, ...]]:
        """The labels of each recording as they stand in the table."""
        found: dict[str, list[str]] = {name: [] for name in self.recordings}
        for label in self.labels:
            found[label.file].append(label.label)
        return {name: tuple(labels) for name, labels in found.items()}


def weak_file(config: AnnotationConfig, folder: Path) -> Path | None:
    """The table of recording-level labels, if one is named: in the source's folder, or else where the command runs."""
    if config.weak is None:
        return None
    inside = folder / config.weak
    return inside if inside.is_file() else Path(config.weak)


def read_weak(path: Path, names: RecordingNames, config: AnnotationConfig) -> WeakTable:
    """Read a table of recording-level labels. names: the recordings that there are.

    Recordings are found by the column `config.file_column`, where the table has it, else by the one of file, filename,
    sample_name, ... that names most; with or without their ending. `config.label_column` is the column that holds the
    list, where that is not known by its name (labels, species, primary_label, ...); also and secondary_labels add to
    it, gen and sp (xeno-canto) are one name. Rows of recordings that are not there are counted in a notice. Raises
    `ValueError` where the file is missing, is no such table, or names none of the recordings.
    """
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; recording-level labels (weak) are a CSV with file and a column of 0 and 1 for each"
            " class, or with file,labels"
        )
    try:
        header, body, delimiter = grid(read_text(path, config.encoding), quoted=True)
        rows, broken = whole_rows(body, header, delimiter)
        _refuse_times(header)
        column, by_row = _recordings(header, rows, names, path.parent, config)
        found = WeakTable(path.name, problems=[f"{path.name}, {line}" for line in broken])
        read = _reader(header, rows, column, config, found)
    except TableError as error:
        raise ValueError(f"{path}, {error}" if str(error).startswith("row ") else f"{path}: {error}") from error
    known: dict[str, set[str]] = {}
    strange: list[str] = []
    for (number, row), file in zip(rows, by_row, strict=True):
        if file is None:
            strange.append(row[column])
            continue
        where = f"{path.name}, row {number}"
        labels, wrong = read(row)
        found.problems += [f"{where}: {line}" for line in wrong]
        there = known.setdefault(file, set())
        found.labels += [WeakLabel(file, label, where) for label in labels if label not in there]
        there.update(labels)
    found.recordings = list(known)
    if strange:
        found.notices.append(
            f"{path.name}: {len(strange)} of {len(rows)} rows name no recording that is there, not used "
            f"(first: {', '.join(repr(name) for name in strange[:SHOWN])})"
        )
    return found


def by_recording(table: WeakTable, labels: Sequence[WeakLabel]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Recording -> its classes, sorted, of labels whose classes a mapping has given; and notices.

    A recording in which something calls of which nobody knows what (`?`, `ignore`) is left out: of no other class it
    is known that it does not call there.
    """
    found: dict[str, set[str]] = {name: set() for name in table.recordings}
    for label in labels:
        found[label.file].add(label.label)
    unknown = [name for name, classes in found.items() if classes & UNKNOWN]
    notices = [
        f"{table.shown}: {len(unknown)} recordings hold calls of an unknown class (first: {unknown[0]}), so nobody "
        "knows which classes they lack; they are not labelled"
    ] if unknown else []  # fmt: skip
    return {name: tuple(sorted(classes)) for name, classes in found.items() if not classes & UNKNOWN}, notices


def compared(
    shown: str, weak: Mapping[str, Sequence[str]], events: Mapping[str, set[str]], strong: Sequence[str]
) -> list[str]:
    """A notice about the recordings that have events too, which count as these say. events: recording -> classes."""
    both = [name for name in strong if name in weak]
    if not both:
        return []
    other = [name for name in both if set(weak[name]) != events.get(name, set())]
    line = f"{shown}: {len(both)} recordings are labelled by events too, which count"
    if not other:
        return [f"{line}; their classes are the same"]
    name = other[0]
    said, listed = (", ".join(sorted(some)) or "none" for some in (weak[name], events.get(name, set())))
    return [f"{line}; of {len(other)} the classes differ (first: {name}: {said} here, {listed} as events)"]


def _refuse_times(header: Header) -> None:
    times = [name for name in header.names if name.lower() in TIME_COLUMNS]
    if times:
        raise TableError(f"row 1: has {', '.join(times)}: this is a table of events; name it in tables, not as weak")


def _recordings(
    header: Header, rows: Cells, names: RecordingNames, folder: Path, config: AnnotationConfig
) -> tuple[int, list[str | None]]:
    """The column that names recordings, and the recording of each row. Of several columns that which names most."""
    there = [at for name in FILE_COLUMNS if (at := header.find(name)) is not None]
    if config.file_column is not None and (given := header.find(config.file_column)) is not None:
        there = [given]
    if not there:
        raise TableError(
            f"row 1: no column file (the header has {header.listed}); it must name the recordings, or "
            "say which does with file_column"
        )
    best: tuple[int, list[str | None]] | None = None
    for at in there:
        found = [_recording(row[at], names, folder) for _, row in rows]
        if best is None or _count(found) > _count(best[1]):
            best = at, found
    assert best is not None
    if not _count(best[1]):
        first = f" (first: {rows[0][1][best[0]]!r})" if rows else ""
        raise TableError(f"names none of the recordings in {names.audio_folder}{first}; correct the file names")
    return best


def _count(found: Sequence[str | None]) -> int:
    return sum(name is not None for name in found)


def _recording(text: str, names: RecordingNames, folder: Path) -> str | None:
    if (found := names.resolve(text, folder)) or not text:
        return found
    if PurePosixPath(composed(text)).suffix.lower() in AUDIO_SUFFIXES:
        return None
    stem = PurePosixPath(composed(text)).name
    fitting = [name for name in names.of_table(f"{text}.csv") if PurePosixPath(composed(name)).stem == stem]
    return fitting[0] if len(fitting) == 1 else None


Reader = Callable[[list[str]], tuple[list[str], list[str]]]  # a row -> its labels, and what is wrong in it


def _reader(header: Header, rows: Cells, file: int, config: AnnotationConfig, found: WeakTable) -> Reader:
    """How a row is read, from the columns that there are."""
    if config.label_column is not None and (chosen := header.find(config.label_column)) is not None:
        return lambda row: (split_list(row[chosen]), [])
    if (genus := header.find("gen")) is not None and (species := header.find("sp")) is not None:
        further = _further(header)
        return lambda row: (_distinct([f"{row[genus]} {row[species]}".strip(), *_lists(row, further)]), [])
    hot = _hot_columns(header, rows, file)
    lists = [at for name in LIST_COLUMNS if (at := header.find(name)) is not None and at != file]
    if lists and len(hot) > 1:
        raise TableError(
            f"row 1: column {header.names[lists[0]]} may hold the classes, and so may {len(hot)} columns of 0 and 1 "
            f"({header.names[hot[0]]}, ...); name the column with label_column, or take one kind out"
        )
    if lists:
        if {row[lists[0]] for _, row in rows} <= {"0", "1", ""}:
            name = header.names[lists[0]]
            raise TableError(
                f"row 1: column {name} holds 0 and 1 only; call it as the class is called that they are of"
            )
        columns = [lists[0], *_further(header)]
        return lambda row: (_distinct(_lists(row, columns)), [])
    if not hot:
        raise TableError(
            f"row 1: no column of classes (the header has {header.listed}); it must have a column of 0 and 1 for each"
            " class, or a column labels with the classes of a recording, ; between them"
        )
    left = [name for at, name in enumerate(header.names) if at not in hot and at != file and name]
    if left:
        found.notices.append(f"{found.shown}: columns that are no classes, since they hold not only 0 and 1: "
                             f"{', '.join(left)}")  # fmt: skip
    zeros = any(row[at].lower() in ABSENT for _, row in rows for at in hot)
    return lambda row: _hot(header, row, hot, zeros)


def _further(header: Header) -> list[int]:
    return [at for name in FURTHER_COLUMNS if (at := header.find(name)) is not None]


def _lists(row: list[str], columns: Sequence[int]) -> list[str]:
    return [label for at in columns for label in split_list(row[at])]


def split_list(text: str) -> list[str]:
    """The classes in a cell: parted by ; or |, or where there is none of these by commas; in brackets and quotes, as
    programs write lists, or not. Empty, nocall, none and the like: no class."""
    text = text.strip()
    if text[:1] == "[" and text[-1:] == "]":
        text = text[1:-1]
        quoted = re.findall(r"'([^']*)'|\"([^\"]*)\"", text)
        if quoted:
            return _distinct([single or double for single, double in quoted])
    parts = re.split(r"[;|]", text) if re.search(r"[;|]", text) else text.split(",")
    return _distinct([part.strip().strip("'\"") for part in parts])


def _distinct(labels: Sequence[str]) -> list[str]:
    return [label for label in dict.fromkeys(label.strip() for label in labels) if label.lower() not in NOTHING]


def _hot_columns(header: Header, rows: Cells, file: int) -> list[int]:
    """Columns of 0 and 1, or of 1 or x and nothing."""
    chosen = []
    for at, name in enumerate(header.names):
        found = Counter(row[at].lower() for _, row in rows if row[at])
        fitting = sum(count for text, count in found.items() if text in PRESENT | ABSENT)
        usual = name.lower() in NO_CLASSES.union(FILE_COLUMNS, LIST_COLUMNS, FURTHER_COLUMNS)
        if at != file and not usual and fitting and fitting >= MOSTLY * found.total():
            chosen.append(at)
    return chosen


def _hot(header: Header, row: list[str], columns: Sequence[int], zeros: bool) -> tuple[list[str], list[str]]:
    """zeros: the table says 0 where a class does not call, so that an empty cell is a mistake."""
    labels, wrong = [], []
    for at in columns:
        text = row[at].lower()
        if text in PRESENT:
            labels.append(header.names[at])
        elif text not in ABSENT and (text or zeros):
            wrong.append(f"{header.names[at]} is {row[at]!r}; it must be 1 (calls in the recording) or 0")
    return labels, wrong
