"""The tables of events that `a2v evaluate` takes, of this project or another program, and their recordings.

`read_events`: one table, or a folder of them, becomes events, read and checked by `a2v_data` as for training. There are
no recordings beside them, so that a name stands as it is written, and a table that does not say to which recording a
row belongs belongs to the one it is named like (monday.BirdNET.selection.table.txt, monday.Table.1.selections.txt:
monday). Of a folder that `a2v predict` or `a2v review export` wrote, its table of all recordings is read.

Files among them that are no tables of events (settings, lists) are named in a notice, an event that stands in two
tables counts once, and of what was marked in several channels all is taken, or that of the channel that is asked for.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from a2v_data.analysis_windows import window_lengths
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.annotations import Annotation, check_rows, table_problem
from a2v_data.audio import AUDIO_SUFFIXES, Channel
from a2v_data.class_mapping import mapped, mapping_file
from a2v_data.documents import read_json
from a2v_data.formats import PICKLE_SUFFIXES, read_table, suffixes
from a2v_data.formats.table import Table, TableError
from a2v_data.heard_channels import Heard, channel_notices, in_heard_channel
from a2v_data.intervals import Interval, united
from a2v_data.meerkat import MEERKAT_CLASSES
from a2v_data.outside import within
from a2v_data.regions import NUMBERS, marked_regions, read_regions, region_tables
from a2v_data.repeated_events import without_repeats
from a2v_data.streams.folder import is_of_streams
from a2v_data.table_files import ANNOTATION_FILE, NAMELESS, REGION_FILE, REVIEW_FILE, why_no_table

from ..basics.errors import UserError
from ..basics.terminal import one_line

SHOWN_PROBLEMS = 10
TABLE_ENDING = re.compile(r"((\.table\.\d+)?\.selections?|\.birdnet\.(selection\.table|results(\.r)?))$", re.IGNORECASE)
OPTIONS = re.compile(
    r"\b((?:label|file|onset|offset|duration)_column|time_unit|default_label|point_duration|unmapped|(?<=with )tier)"
    r"(_s)?\b"
)


@dataclass
class EventFiles:
    """All events; `silent`: recordings that were listened to and have none, in their order; `likelihood`: the column
    that ranks the events; `notices`: what a mapping did and what was left out, a line each; `regions`: which parts of
    the recordings were annotated, None: all that there is; `windows_s`: by table (as the events' `where` names it) the
    length of its analysis windows, where its events are some."""

    rows: list[Annotation] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    likelihood: str | None = None
    tables: int = 0
    notices: list[str] = field(default_factory=list)
    regions: dict[str, list[Interval]] | None = None
    windows_s: dict[str, float] = field(default_factory=dict)

    def window_s(self, row: Annotation) -> float | None:
        """Of the window that an event is; None: it is none."""
        return self.windows_s.get(row.where.rpartition(", ")[0])


class _AsWritten:
    """Names of recordings where no recordings are at hand."""

    def resolve(self, text: str, table_folder: Path) -> str | None:
        return text or None

    def missing(self, text: str | None) -> str:
        return "file is empty; name a recording"

    def rate(self, recording: str) -> int | None:
        return None


def read_events(
    path: Path,
    config: AnnotationConfig | None = None,
    ranked: bool = True,
    prefix: str = "",
    channel: Channel | None = None,
) -> EventFiles:
    """Read a table, or every table in a folder. Raises UserError naming each wrong row, the first ten.

    config: how to read them; its `tables` are not used. ranked: likelihoods are wanted, so that one that is wrong is
    told, and tables with and without them are not mixed. prefix: of the options that messages name. channel: of which
    events are taken, from 0, as far as tables say it; None or 'mix': of all.
    """
    config = config or AnnotationConfig()
    folder = path if path.is_dir() else path.parent
    files, ignored = _tables(path, config)
    found = EventFiles(tables=len(files))
    problems: list[str] = []
    columns: dict[str, str | None] = {}  # in lower case -> as it is written first
    opened: list[tuple[Path, Table]] = []
    for file in files:
        inside = file.relative_to(path) if path.is_dir() else Path(file.name)
        try:
            table = read_table(file, config, sidecar=True, classes=MEERKAT_CLASSES)
            if any(row.in_samples for row in table.rows):
                raise TableError("its times are samples, and without recordings their rate is not known; give s or ms")
        except TableError as error:
            problems.append(table_problem(inside.as_posix(), error))
            continue
        opened.append((inside, table))
        if not all(row.silent for row in table.rows):
            columns.setdefault((table.likelihood or "").lower(), table.likelihood)
    lengths = window_lengths([table for _, table in opened])
    events = [
        (inside.as_posix(), _add(found, table, inside, window_s, config, ranked, problems))
        for (inside, table), window_s in zip(opened, lengths, strict=True)
    ]
    if (heard_in := _predicted_channel(path)) is not None:
        events = [(shown, [replace(row, channels=row.channels or heard_in) for row in rows]) for shown, rows in events]
    for (inside, _), window_s in zip(opened, lengths, strict=True):
        length_s = window_s if config.point_duration_s is None else config.point_duration_s
        if length_s is not None:
            found.windows_s[inside.as_posix()] = length_s
    said = _in_channel(events, channel)
    names = _one_name_each({row.file for _, rows in events for row in rows})
    kept, repeated = without_repeats(events, [[names[row.file] for row in rows] for _, rows in events])
    found.rows = [row for rows in kept for row in rows]
    if not ranked:
        _read_regions(found, folder, config, problems, deep=path.is_dir())
    heard = dict.fromkeys([*(row.file for row in found.rows), *found.silent])
    placed: list[str] = []
    if config.outside != "refuse":  # how long the recordings are, is not known here
        begun = within(found.rows, dict.fromkeys(heard, float("inf")), config.outside)
        found.rows, placed = begun.rows, begun.notices
    found.rows, unknown, mapping = mapped(found.rows, config, folder)
    not_read = [f"{name} is not read: {reason}" for name, reason in ignored]
    found.notices = [*not_read, *said, *repeated, *placed, *mapping]
    found.notices = [with_options(line, prefix) for line in found.notices]
    if ranked:
        found.notices += _without_unsure(found)
    with_events = {row.file for row in found.rows}
    found.silent = [name for name in heard if name not in with_events]
    problems += unknown
    if ranked and len(columns) > 1:
        named = " or ".join(sorted(str(column) for column in columns.values() if column))
        problems.append(f"some tables have a column {named} and some have none or another one; give all the same")
    if problems:
        more = [f"... and {len(problems) - SHOWN_PROBLEMS} more"] if len(problems) > SHOWN_PROBLEMS else []
        count = f"{len(problems)} problem{'s' if len(problems) != 1 else ''}"
        shown = [one_line(with_options(line, prefix)) for line in problems[:SHOWN_PROBLEMS]]
        raise UserError("\n".join([f"{path}: {count}", *shown, *more]))
    if len(columns) == 1:
        (found.likelihood,) = columns.values()
    return found


def _predicted_channel(path: Path) -> frozenset[int] | None:
    """The channel, from 1, that `a2v predict` heard when it wrote this folder, of which events.csv says nothing."""
    try:
        said = read_json(path / "predict.json")["options"]["channel"]
        return frozenset({int(said) + 1})
    except (OSError, ValueError, KeyError, TypeError):  # no folder of predict, or the mean of all channels
        return None


def _without_unsure(found: EventFiles) -> list[str]:
    """Leave out predictions of no class; the lines that say so."""
    unsure = Counter(row.label for row in found.rows if row.label in NUMBERS)
    found.rows = [row for row in found.rows if row.label not in NUMBERS]
    return [
        f"predictions of {label!r} are of no class and left out: {count}" for label, count in sorted(unsure.items())
    ]


def _read_regions(found: EventFiles, folder: Path, config: AnnotationConfig, problems: list[str], deep: bool) -> None:
    """Which parts of the recordings were annotated, where a table of regions or a label says so."""
    parts = []
    if config.region_label is not None:
        found.rows, marked = marked_regions(found.rows, config.region_label)
        parts.append(marked)
        if not marked:
            problems.append(f"--region-label: no event is labelled {config.region_label!r}")
    names = RecordingMatcher([*(row.file for row in found.rows), *found.silent])
    for table in region_tables(folder, config.regions, deep):
        listed, wrong = read_regions(table, lambda name: names.find(name) or name, config.encoding)
        parts.append(listed)
        problems += [line for _, line in wrong]
    if parts:
        found.regions = {
            name: united(interval for part in parts for interval in part.get(name, ()))
            for name in sorted(set().union(*parts))
        }


def _add(
    found: EventFiles,
    table: Table,
    inside: Path,
    window_s: float | None,
    config: AnnotationConfig,
    ranked: bool,
    problems: list[str],
) -> list[Annotation]:
    """One table's events; its silent recordings and notices go to `found`, what is wrong to `problems`."""
    shown = inside.as_posix()
    own = inside.with_name(TABLE_ENDING.sub("", inside.stem)).as_posix()
    rows = table.rows
    if ranked:
        rows = [
            replace(row, problems=(*row.problems, row.likelihood_problem)) if row.likelihood_problem else row
            for row in rows
        ]
    checked = check_rows(rows, shown, inside.parent, _AsWritten(), own, config, window_s)
    problems += [f"{shown}, {problem}" for problem in table.problems] + [line for _, line in checked.problems]
    found.silent += [row.file or own for row in rows if row.silent]
    if not rows and table.format in (*NAMELESS, "meerkat"):
        found.silent.append(own)
    found.notices += [f"{shown}: {line}" for line in table.notices]
    if checked.moved + checked.cut:
        found.notices.append(
            f"{shown}: events that start before their recording, begin with it: {checked.moved + checked.cut}"
        )
    return checked.rows


def _in_channel(events: list[tuple[str, list[Annotation]]], channel: Channel | None) -> list[str]:
    """Leave out what was marked in other channels than the one that is asked for, in place, and say so; say how many
    events each channel has where all are taken."""
    if channel is None or channel == "mix":
        counts = Counter(one for _, rows in events for row in rows for one in row.channels or ())
        if channel is None and len(counts) > 1:
            each = ", ".join(f"{count} in channel {one}" for one, count in sorted(counts.items()))
            return [f"events of {len(counts)} channels are taken together ({each}); --channel takes those of one"]
        return []
    heard = Heard(channel)
    others: list[Annotation] = []
    for at, (shown, rows) in enumerate(events):
        kept, left = in_heard_channel(rows, heard)
        events[at] = (shown, kept)
        others += left
    return channel_notices(others, heard)


def _one_name_each(names: set[str]) -> dict[str, str]:
    """For each name the longest that means the same recording: tables write /data/a.wav, a.wav, or only a in their own
    name. What may mean several stands for itself."""
    bare = {name: _without_ending(_tidy(name)) for name in names}
    by_stem: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: (len(bare[name]), len(name)), reverse=True):
        by_stem.setdefault(bare[name].rpartition("/")[2], []).append(name)
    found: dict[str, str] = {}
    for same in by_stem.values():
        whole: list[str] = []  # names that none of the others is the end of
        for name in same:
            fitting = [
                longer
                for longer in whole
                if f"/{bare[longer]}".endswith(f"/{bare[name]}") and _ending(name) in ("", _ending(longer))
            ]
            found[name] = fitting[0] if len(fitting) == 1 else name
            if not fitting:
                whole.append(name)
    return found


def _ending(name: str) -> str:
    """The ending of a recording's name, in lower case; empty where it has none."""
    ending = Path(name).suffix.lower()
    return ending if ending in AUDIO_SUFFIXES else ""


def _without_ending(name: str) -> str:
    return name[: -len(ending)] if (ending := _ending(name)) else name


def with_options(line: str, prefix: str = "") -> str:
    """A message with the options of a command where readers name their settings. prefix: of these options."""
    return OPTIONS.sub(lambda name: f"--{prefix}{name[1].replace('_', '-')}", line)


def _tables(path: Path, config: AnnotationConfig) -> tuple[list[Path], list[tuple[str, str]]]:
    """The tables that are read, and files among them that hold no events, with the reason."""
    if path.is_file():
        return [path], []
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder; name a table of events, or a folder of them")
    if (path / "predict.json").is_file() and (path / "events.csv").is_file():
        return [path / "events.csv"], []
    if (path / REVIEW_FILE).is_file() and (path / ANNOTATION_FILE).is_file():
        return [path / ANNOTATION_FILE], []  # others say the same, and hard_negatives.csv the contrary
    mapping = mapping_file(config, path)
    files = [
        file
        for file in sorted(path.rglob("*"))
        if file.is_file()
        and not file.name.startswith(".")
        and file != mapping
        and file.name.lower() != REGION_FILE
        and not is_of_streams(file, file.relative_to(path).as_posix())
    ]
    endings = suffixes(config.format) - PICKLE_SUFFIXES
    tables, ignored = _sorted(path, [file for file in files if file.suffix.lower() in endings], config)
    if not tables and config.format is None:  # beside other tables these may be anything
        others = [file for file in files if file.suffix.lower() in {".json"} | PICKLE_SUFFIXES]
        tables, more = _sorted(path, others, config)
        ignored += more
    if not tables:
        listed = ", ".join(sorted(endings))
        seen = f" ({ignored[0][0]}: {ignored[0][1]})" if ignored else ""
        raise UserError(f"{path}: no table in it ({listed}){seen}; name a table of events, or a folder of them")
    return tables, ignored


def _sorted(path: Path, files: list[Path], config: AnnotationConfig) -> tuple[list[Path], list[tuple[str, str]]]:
    tables, ignored = [], []
    for file in files:
        if reason := why_no_table(file, config):
            ignored.append((file.relative_to(path).as_posix(), reason))
        else:
            tables.append(file)
    return tables, ignored


class RecordingMatcher:
    """Finds recordings by what another table calls them: path, the end of a path, bare name, or name without ending."""

    def __init__(self, names: Sequence[str]) -> None:
        self._exact: dict[str, str] = {}
        for name in names:
            self._exact.setdefault(_tidy(name), name)
        self.names = list(self._exact.values())
        self._by_name: dict[str, list[str]] = {}
        self._by_stem: dict[str, list[str]] = {}
        for name in self.names:
            bare = _tidy(name).rpartition("/")[2]
            self._by_name.setdefault(bare, []).append(name)
            self._by_stem.setdefault(bare.rpartition(".")[0] or bare, []).append(name)

    def find(self, text: str) -> str | None:
        """The recording, or None. Raises UserError where several would fit."""
        wanted = _tidy(text)
        if wanted in self._exact:
            return self._exact[wanted]
        bare = wanted.rpartition("/")[2]
        for index, key in ((self._by_name, bare), (self._by_stem, bare), (self._by_stem, bare.rpartition(".")[0])):
            fitting = index.get(key, [])
            if len(fitting) > 1:
                fitting = list(_same_end(wanted, fitting)) or fitting
            if len(fitting) > 1:
                raise UserError(f"{text!r} may be {' or '.join(fitting)}; write the path that tells them apart")
            if fitting:
                return fitting[0]
        return None


def _same_end(wanted: str, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        tidy = _tidy(name)
        if f"/{wanted}".endswith(f"/{tidy}") or f"/{tidy}".endswith(f"/{wanted}"):
            yield name


def _tidy(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")
