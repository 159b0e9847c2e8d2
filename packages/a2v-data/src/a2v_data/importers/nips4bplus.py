"""NIPS4Bplus: bird song with onsets and offsets, from the archives as they were published.

Audio: NIPS4B_BIRD_CHALLENGE_TRAIN_TEST_WAV.tar.gz holds train/nips4b_birds_trainfile001.wav to 687 and
test/nips4b_birds_testfile0001.wav to 1000 (44.1 kHz, mono, 16 bit, at most 5 s). Annotations: a zip from figshare holds
temporal_annotations_nips4b/annotation_train001.csv and so on, rows of starting time, duration (seconds) and class
without a header, 674 of them; 105 are empty, since nothing calls in their recordings, and 13 recordings have none.
Morfi et al. (2019), NIPS4Bplus: a richly annotated birdsong audio dataset, https://doi.org/10.7717/peerj-cs.223
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from a2v_data.annotation_writers import EventRow, annotation_csv
from a2v_data.annotations import event_problems, table_problem
from a2v_data.audio import AudioError, read_info
from a2v_data.formats.lines import read_nips4bplus
from a2v_data.formats.table import TableError, decode
from a2v_data.importers.archives import MemberError, wanted_files
from a2v_data.importers.result import Imported, some_names, write_readme
from a2v_data.importers.sounds import sound_digest
from a2v_data.storage import refuse_existing, write_text_aside, written_aside

AUDIO_NAME = re.compile(r"nips4b_birds_(train|test)file(\d+)\.wav", re.IGNORECASE)
TABLE_NAME = re.compile(r"annotation_train(\d+)\.csv", re.IGNORECASE)
SPECIES_TABLE = "nips4b_birdchallenge_espece_list.csv"
NO_CLASS = ("Unknown", "Human")
ABOUT = (
    "Bird song of the NIPS4B 2013 bird challenge with the temporal annotations of NIPS4Bplus: 5 s from automatic",
    "recorders in France and Spain. Morfi, V., Bas, Y., Pamuła, H., Glotin, H., Stowell, D. (2019), PeerJ Computer",
    "Science 5, e223, https://doi.org/10.7717/peerj-cs.223. The terms of use are those of the sources. Some recordings",
    "are consecutive pieces of a longer one; which ones was not published, so folds cannot keep them together.",
)
Progress = Callable[[int, int], None]


class Nips4bplusConfig(BaseModel):
    """What the paper leaves open.

    keep_unknown: keep the labels Unknown (not identified) and Human, which are none of the 87 classes. challenge_test:
    take in the challenge's 1 000 test recordings too, which have no annotations and serve pretraining only.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    keep_unknown: bool = False
    challenge_test: bool = False


@dataclass
class _Parts:
    """What the archives held: recordings (their names, by number), annotation tables by number, other problems."""

    train: dict[int, str] = field(default_factory=dict)
    test: dict[int, str] = field(default_factory=dict)
    tables: dict[int, tuple[str, bytes]] = field(default_factory=dict)
    digests: dict[str, bytes] = field(default_factory=dict)


def import_nips4bplus(
    archives: Sequence[Path], out: Path, config: Nips4bplusConfig, progress: Progress | None = None
) -> Imported:
    """Make the source folder `out` from archives or extracted folders that together hold audio and annotations.

    `progress(done, 0)` counts files. A recording that cannot be used is left out and listed in `problems`; one whose
    annotations are wrong comes without them, and so do those that have none. Raises `ValueError` where an archive is
    damaged, where audio or annotations are missing, or where `out` exists.
    """
    refuse_existing(out)
    found = Imported(out)
    with written_aside(out) as folder:
        (folder / "audio").mkdir()
        parts = _unpack(archives, folder, config, found, progress)
        _require(archives, parts)
        durations = _check_audio(folder / "audio", parts, found)
        events, silent = _events(parts, durations, config, found)
        write_text_aside(folder / "annotations.csv", annotation_csv(events, silent))
        found.recordings, found.seconds = len(durations), sum(durations.values())
        found.labelled = len({event.file for event in events} | set(silent))
        found.events = len(events)
        options = {"archives": ", ".join(path.name for path in archives)} | config.model_dump()
        write_readme(folder, "NIPS4Bplus", ABOUT, options, found)
    return found


def _unpack(
    archives: Sequence[Path], folder: Path, config: Nips4bplusConfig, found: Imported, progress: Progress | None
) -> _Parts:
    """Write the recordings to audio/ under their published names and collect the annotation tables."""
    parts = _Parts()
    done = 0
    for archive in archives:
        for name, content in wanted_files(archive, lambda name: _wanted(name, config)):
            done += 1
            if progress:
                progress(done, 0)
            if isinstance(content, MemberError):
                found.problems.append(f"{content} (left out)")
                continue
            digest = sha256(content).digest()
            if name in parts.digests:
                if parts.digests[name] != digest:
                    found.problems.append(f"{name}: is there twice with different content; the first was taken")
                continue
            parts.digests[name] = digest
            if match := AUDIO_NAME.fullmatch(name):
                (folder / "audio" / name).write_bytes(content)
                (parts.train if match[1].lower() == "train" else parts.test)[int(match[2])] = name
            elif match := TABLE_NAME.fullmatch(name):
                parts.tables[int(match[1])] = (name, content)
            else:
                (folder / SPECIES_TABLE).write_bytes(content)
    return parts


def _wanted(name: str, config: Nips4bplusConfig) -> bool:
    if match := AUDIO_NAME.fullmatch(name):
        return config.challenge_test or match[1].lower() == "train"
    return bool(TABLE_NAME.fullmatch(name)) or name == SPECIES_TABLE


def _require(archives: Sequence[Path], parts: _Parts) -> None:
    names = ", ".join(path.name for path in archives)
    if not parts.train:
        raise ValueError(
            f"{names}: no recording nips4b_birds_trainfile001.wav and so on in it; give the challenge's audio too "
            "(NIPS4B_BIRD_CHALLENGE_TRAIN_TEST_WAV.tar.gz)"
        )
    if not parts.tables:
        raise ValueError(
            f"{names}: no annotation_train001.csv and so on in it; give the zip of NIPS4Bplus' annotations too "
            "(figshare 6798548)"
        )


def _check_audio(folder: Path, parts: _Parts, found: Imported) -> dict[str, float]:
    """Seconds of every recording that is whole and no copy of another; the others are removed and listed.

    Of copies the one with annotations stays: no sound may be in two folds, or in pretraining and in evaluation, under
    two names.
    """
    numbers = sorted(parts.train, key=lambda number: (number not in parts.tables, number))
    names = [parts.train[number] for number in numbers] + [parts.test[number] for number in sorted(parts.test)]
    durations: dict[str, float] = {}
    sounds: dict[bytes, str] = {}
    for name in names:
        path = folder / name
        try:
            info, digest = read_info(path), sound_digest(path)
        except AudioError as error:
            found.problems.append(f"{name}: {error} (left out)")
            path.unlink(missing_ok=True)
            continue
        if digest in sounds:
            found.notices.append(f"{name} has the same sound as {sounds[digest]}, which alone was taken")
            path.unlink()
            continue
        sounds[digest] = name
        durations[name] = info.duration_s
    return durations


def _events(
    parts: _Parts, durations: dict[str, float], config: Nips4bplusConfig, found: Imported
) -> tuple[list[EventRow], list[str]]:
    """Events, and the recordings that were listened to and hold none."""
    events: list[EventRow] = []
    silent: list[str] = []
    dropped: Counter[str] = Counter()
    cut = 0
    for number, (table_name, content) in sorted(parts.tables.items()):
        name = parts.train.get(number)
        if name is None or name not in durations:
            left = "is not there" if name is None else "was left out"
            found.problems.append(f"{table_name}: its recording nips4b_birds_trainfile{number:03d}.wav {left}")
            continue
        rows, problems = _rows(table_name, content, durations[name])
        if problems:  # with an event less, its recording would teach that nothing calls there
            found.problems += problems
            found.problems.append(f"{table_name}: not used; {name} is there without annotations")
            continue
        kept = [row for row in rows if config.keep_unknown or row.label not in NO_CLASS]
        dropped.update(row.label for row in rows if not config.keep_unknown and row.label in NO_CLASS)
        cut += sum(row.offset_s > durations[name] for row in kept)
        events += [replace(row, file=name, offset_s=min(row.offset_s, durations[name])) for row in kept]
        silent += [] if kept else [name]
    listened = {event.file for event in events} | set(silent)
    without = sorted(name for name in parts.train.values() if name in durations and name not in listened)
    if without:
        found.notices.append(f"without annotations, for pretraining only: {len(without)} ({some_names(without)})")
    if cut:
        found.notices.append(f"events that passed the end of their recording, cut there: {cut}")
    for label, count in sorted(dropped.items()):
        found.notices.append(f"events labelled {label}, which is no class, left out: {count}")
    return events, silent


def _rows(table_name: str, content: bytes, duration_s: float) -> tuple[list[EventRow], list[str]]:
    """Events of one table (without their recording's name), and one line for everything that is wrong in it."""
    try:
        table = read_nips4bplus(decode(content))
    except TableError as error:
        return [], [table_problem(table_name, error)]
    problems = [f"{table_name}, {problem}" for problem in table.problems]
    rows = []
    for row in table.rows:
        wrong = [*row.problems, *event_problems(row.onset_s, row.offset_s, row.label)]
        if row.onset_s is not None and row.onset_s >= duration_s:
            wrong.append(f"starts at {row.onset_s:g} s, its recording ends at {duration_s:.3f} s")
        problems += [f"{table_name}, {row.place}: {problem}" for problem in wrong]
        if row.onset_s is not None and row.offset_s is not None:
            rows.append(EventRow("", row.onset_s, row.offset_s, row.label))
    return rows, problems
