"""MeerKAT's manifests: which recordings a fold trains on and evaluates on, as TSV.

A manifest is UTF-8 text. Line 1 is the folder of the audio; then one recording a line: its path in that folder, a tab,
its number of samples in the file. Names, K counting folds from 0 and P a percentage of the labels (1, 25, 0.5):
- `pretrain.tsv`: all recordings, labelled or not
- `train_K.tsv`, `valid_K.tsv`: what fold K trains on and is evaluated on
- `train_K_P.tsv`: the few-shot subset of train_K.tsv; it is evaluated on valid_K.tsv
A hold-out is fold 0. `folds.json`, where it is there, says how the folds were made; nothing reads it.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from a2v_data.folds import Fold, Folds, class_counts, label_share, train_counts
from a2v_data.listing import Listing
from a2v_data.storage import write_text_aside, written_aside

PRETRAIN, STATE = "pretrain.tsv", "folds.json"


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One recording of a manifest; rows are counted from 1, the folder's line included."""

    row: int
    name: str
    samples: int


def share_name(share: float) -> str:
    """How a share (0 to 1) of the labels is written in a file's name: its percentage."""
    return f"{100 * share:.6g}"


def write_manifests(
    folds: Folds, corpus: Listing, folder: Path, shares: Sequence[float] = (), seed: int = 0
) -> list[Path]:
    """Write train_K.tsv and valid_K.tsv of each fold, and train_K_P.tsv of each few-shot share (0 to 1).

    Returns their paths. Each is whole or not there.
    """
    written = []
    for fold in folds:
        parts = {f"train_{fold.index}": fold.train, f"valid_{fold.index}": fold.evaluation}
        for share in shares:
            parts[f"train_{fold.index}_{share_name(share)}"] = label_share(fold, share, seed).train
        for stem, names in parts.items():
            written.append(_write_manifest(Path(folder) / f"{stem}.tsv", corpus, corpus.indices(names)))
    return written


def write_fold_folder(
    out: Path, folds: Folds, corpus: Listing, shares: Sequence[float], seed: int, described: dict[str, Any]
) -> Path:
    """Write all manifests, pretrain.tsv and folds.json (`described`) to the new folder `out`, whole or not at all.

    Raises `ValueError` where `out` exists and is not an empty folder.
    """
    with written_aside(Path(out)) as folder:
        _write_manifest(folder / PRETRAIN, corpus, range(len(corpus.recordings)))
        write_manifests(folds, corpus, folder, shares, seed)
        write_text_aside(folder / STATE, json.dumps(described, indent=1, ensure_ascii=False) + "\n")
    return Path(out)


def _write_manifest(path: Path, corpus: Listing, numbers: Iterable[int]) -> Path:
    rows = [corpus.recordings[number] for number in numbers]
    lines = [corpus.meta["source"]["audio_folder"], *(f"{row.name}\t{row.source_samples}" for row in rows)]
    write_text_aside(path, "\n".join(lines) + "\n")
    return path


def read_manifests(folder: Path, corpus: Listing, share: float = 1.0) -> Folds:
    """Read folds back, with the few-shot train recordings of `share` (0 to 1) where it is below 1.

    Raises `ValueError` naming file and row for what does not fit the corpus.
    """
    folder = Path(folder)
    counts_RC = class_counts(corpus)
    numbers = sorted(int(path.stem[6:]) for path in folder.glob("train_*.tsv") if path.stem[6:].isdigit())
    if not numbers:
        raise ValueError(f"{folder}: no manifest train_0.tsv; `a2v data folds` writes them")
    of_share = "" if share == 1 else f"_{share_name(share)}"
    folds = []
    for number in numbers:
        train = _read_manifest(folder / f"train_{number}{of_share}.tsv", corpus)
        evaluation = _read_manifest(folder / f"valid_{number}.tsv", corpus)
        both = sorted(set(train) & set(evaluation))
        if both:
            raise ValueError(f"{folder}: {both[0]!r} is in train and in valid of fold {number}; keep it in one")
        folds.append(Fold(number, train, evaluation, train_counts(corpus, counts_RC, train)))
    return Folds(tuple(folds))


def shares_in(folder: Path) -> list[float]:
    """The few-shot shares (0 to 1) that a folder has manifests of, from small to large."""
    found = {re.fullmatch(r"train_\d+_(\d+(?:\.\d+)?)", path.stem) for path in Path(folder).glob("train_*.tsv")}
    return sorted({float(name[1]) / 100 for name in found if name})


def _read_manifest(path: Path, corpus: Listing) -> list[str]:
    if not path.is_file():
        raise ValueError(f"{path}: no such file; each train_K.tsv needs its valid_K.tsv")
    _, rows, problems = parse_manifest(path)
    if problems:
        raise ValueError(f"{path}, row {problems[0][0]}: {problems[0][1]}")
    expected = {recording.name: recording.source_samples for recording in corpus.recordings}
    for row in rows:
        if row.name not in expected:
            raise ValueError(f"{path}, row {row.row}: recording {row.name!r} is not in {corpus.folder}")
        if row.samples != expected[row.name]:
            raise ValueError(f"{path}, row {row.row}: {row.samples} samples; {row.name} has {expected[row.name]}")
    return [row.name for row in rows]


def parse_manifest(path: Path) -> tuple[str, list[ManifestRow], list[tuple[int, str]]]:
    """A manifest's audio folder, its rows, and (row, what is wrong) of the rows that are no recording.

    Raises OSError where it cannot be read.
    """
    root, rows, problems = "", [], []
    lines = path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n")
    for number, raw in enumerate(lines, start=1):
        try:
            line = raw.decode("utf-8").rstrip("\r")
        except UnicodeDecodeError as error:
            problems.append((number, f"byte {raw[error.start]:#04x} is not UTF-8; save the manifest as UTF-8"))
            continue
        if number == 1:
            root = line
            if "\t" in line or not line.strip():
                problems.append((1, f"is {line!r}; the first line must be the folder of the audio"))
            continue
        if not line.strip():
            continue
        name, _, samples = line.partition("\t")
        if name and samples.isascii() and samples.isdigit():
            rows.append(ManifestRow(number, name, int(samples)))
        else:
            problems.append((number, f"is {line!r}; it must be a path, a tab and a number of samples"))
    return root, rows, problems
