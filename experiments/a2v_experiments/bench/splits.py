"""`splits.csv`: which recordings of a folder are trained on, chosen on and scored on."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from a2v_data.corpus import Corpus
from a2v_data.folds import Fold, class_counts, label_share, train_counts, train_times
from a2v_data.recording_names import RecordingNames

from ..basics.errors import UserError

SPLITS = "splits.csv"
PARTS = ("train", "valid", "test")


@dataclass(frozen=True)
class Splits:
    """Names of recordings. heard: those of train that pretraining may hear, whatever the share of labels is."""

    train: list[str]
    valid: list[str]
    test: list[str]
    heard: list[str]


def read_splits(folder: Path, names: RecordingNames) -> Splits:
    """FOLDER/splits.csv, with the columns file and split. file: as annotation tables name recordings.

    Raises UserError where the table is missing, a line is wrong, a recording is in it twice, or a part has none.
    """
    path = folder / SPLITS
    if not path.is_file():
        raise UserError(f"{path}: no such file; it must say which recordings are for what (file,split: {_words()})")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            table = csv.DictReader(file)
            if missing := [column for column in ("file", "split") if column not in (table.fieldnames or [])]:
                raise UserError(f"{path}: no column {missing[0]!r}; it must have the columns file and split")
            rows = [(table.line_num, row["file"] or "", row["split"] or "") for row in table]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not readable as a table of UTF-8 text: {error}") from None
    part_of: dict[str, str] = {}
    for line, text, word in rows:
        name = names.resolve(text, folder)
        if name is None:
            raise UserError(f"{path}, line {line}: {names.missing(text)}")
        if word.strip() not in PARTS:
            raise UserError(f"{path}, line {line}: split {word!r} is unknown; must be {_words()}")
        if name in part_of:
            raise UserError(f"{path}, line {line}: {text!r} is in the table twice; a recording is in one part")
        part_of[name] = word.strip()
    parts = {part: [name for name, of in part_of.items() if of == part] for part in PARTS}
    if empty := [part for part in PARTS if not parts[part]]:
        raise UserError(f"{path}: no recording is in {empty[0]}; there must be some in each of {_words()}")
    return Splits(**parts, heard=parts["train"])


def with_labels(splits: Splits, corpus: Corpus, share: float, seed: int) -> Splits:
    """The splits with a share of the train recordings (`label_share`: classes are kept where that is possible).

    Raises UserError where a part has no labelled event.
    """
    counts_RC = class_counts(corpus)
    for part in PARTS:
        _require_events(corpus, getattr(splits, part), part)
    times_s = train_times(corpus, splits.train)
    fold = Fold(0, splits.train, splits.test, train_counts(corpus, counts_RC, splits.train), times_s=times_s)
    train = label_share(fold, share, seed).train
    _require_events(corpus, train, f"the {len(train)} train recordings of --share {share:g}")
    return Splits(train, splits.valid, splits.test, splits.heard)


def sizes(splits: Splits, corpus: Corpus) -> Mapping[str, Mapping[str, float]]:
    """Recordings, seconds and events of each part."""
    return {
        part: {
            "recordings": len(getattr(splits, part)),
            "seconds": corpus.seconds(numbers),
            "events": sum(len(corpus.labels(n)) for n in numbers),
        }
        for part in PARTS
        for numbers in [corpus.indices(getattr(splits, part))]
    }


def _require_events(corpus: Corpus, names: list[str], what: str) -> None:
    if not any(len(corpus.labels(number)) for number in corpus.indices(names)):
        raise UserError(f"{SPLITS}: no labelled event in {what}; each part must have some")


def _words() -> str:
    return f"{', '.join(PARTS[:-1])} or {PARTS[-1]}"
