"""MeerKAT's manifests: which recordings a fold trains on and evaluates on, as TSV.

A manifest is UTF-8 text. Line 1 is the folder of the audio; then one recording a line: its path in that folder, a tab,
its number of samples in the file. Names, K counting folds from 0 and P a percentage of the labels (1, 25, 0.5):
- `pretrain.tsv`: all recordings that pretraining hears, labelled or not
- `train_K.tsv`, `valid_K.tsv`: what fold K trains on and is evaluated on
- `train_K_P.tsv`: the few-shot subset of train_K.tsv; it is evaluated on valid_K.tsv
- `train_lof.tsv`, `valid_lof.tsv`, `train_lof_P.tsv`, `pretrain_lof.tsv`: the same of a hold-out, as it was published;
  `a2v data folds --holdout` writes its own as fold 0
`folds.json`, where it is there, says how the folds were made; nothing reads it.
"""

import hashlib
import json
import posixpath
import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from a2v_data.folds import Fold, Folds, class_counts, label_share, share_name, train_counts, train_times
from a2v_data.listing import Listing
from a2v_data.storage import check_regular, write_text_aside, written_aside

PRETRAIN, STATE = "pretrain.tsv", "folds.json"
HOLDOUT = "lof"  # what published names call the hold-out instead of a fold's number


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """One recording of a manifest; rows are counted from 1, the folder's line included."""

    row: int
    name: str
    samples: int


def write_manifests(
    folds: Folds, corpus: Listing, folder: Path, shares: Sequence[float] = (), seed: int = 0
) -> list[Path]:
    """Write train_K.tsv and valid_K.tsv of each fold, and train_K_P.tsv of each few-shot share (0 to 1); those that the
    folds were given, and pretrain.tsv where they say who is in it.

    Returns their paths. Each is whole or not there.
    """
    written = []
    if folds.pretrain is not None:
        written.append(_write_manifest(Path(folder) / PRETRAIN, corpus, corpus.indices(folds.pretrain)))
    for fold in folds:
        parts = {f"train_{fold.index}": fold.train, f"valid_{fold.index}": fold.evaluation}
        parts |= {f"train_{fold.index}_{percent}": names for percent, names in fold.shares.items()}
        for share in shares:
            parts[f"train_{fold.index}_{share_name(share)}"] = label_share(fold, share, seed).train
        for stem, names in parts.items():
            written.append(_write_manifest(Path(folder) / f"{stem}.tsv", corpus, corpus.indices(names)))
    return written


def write_fold_folder(
    out: Path, folds: Folds, corpus: Listing, shares: Sequence[float], seed: int, described: dict[str, Any]
) -> Path:
    """Write all manifests, pretrain.tsv and folds.json (`described`) to the new folder `out`, whole or not at all.

    pretrain.tsv has all recordings, where the folds do not say whom. Raises `ValueError` where `out` exists and is not
    an empty folder.
    """
    with written_aside(Path(out)) as folder:
        if folds.pretrain is None:
            _write_manifest(folder / PRETRAIN, corpus, range(len(corpus.recordings)))
        write_manifests(folds, corpus, folder, shares, seed)
        write_text_aside(folder / STATE, json.dumps(described, indent=1, ensure_ascii=False) + "\n")
    return Path(out)


def _write_manifest(path: Path, corpus: Listing, numbers: Iterable[int]) -> Path:
    rows = [corpus.recordings[number] for number in numbers]
    lines = [corpus.meta["source"]["audio_folder"], *(f"{row.name}\t{row.source_samples}" for row in rows)]
    write_text_aside(path, "\n".join(lines) + "\n")
    return path


def read_manifests(folder: Path, corpus: Listing, holdout: bool = False) -> Folds:
    """Read folds with their few-shot subsets, and who is in pretrain.tsv where there is one.

    holdout: the hold-out as fold 0, `train_lof.tsv` or, where that is not there, the only fold; pretraining hears
    pretrain_lof.tsv, or pretrain.tsv without the recordings that are held out.
    Raises `ValueError` naming file and row for what does not fit the corpus.
    """
    folder = Path(folder)
    marks = _marks(folder, holdout)
    counts_RC = class_counts(corpus)
    known = {recording.name: recording.source_samples for recording in corpus.recordings}

    def names_of(stem: str) -> list[str]:
        return _read_manifest(folder / f"{stem}.tsv", corpus.folder, known)

    folds = []
    for number, mark in marks.items():
        train, evaluation = names_of(f"train_{mark}"), names_of(f"valid_{mark}")
        both = sorted(set(train) & set(evaluation))
        if both:
            raise ValueError(f"{folder}: {both[0]!r} is in train and in valid of fold {mark}; keep it in one")
        shares = {share_name(share): names_of(f"train_{mark}_{text}") for share, text in _shares(folder, mark)}
        for percent, names in shares.items():
            if more := sorted(set(names) - set(train)):
                raise ValueError(f"{folder}: {more[0]!r} is in train_{mark}_{percent}.tsv and not in train_{mark}.tsv")
        times_s = train_times(corpus, train)
        folds.append(Fold(number, train, evaluation, train_counts(corpus, counts_RC, train), shares, times_s))
    pretrain: list[str] | None = None
    notices: list[str] = []
    if holdout and (folder / f"pretrain_{HOLDOUT}.tsv").is_file():
        pretrain = names_of(f"pretrain_{HOLDOUT}")
    elif (folder / PRETRAIN).is_file():
        held = set(folds[0].evaluation) if holdout else set()
        pretrain = [name for name in names_of(Path(PRETRAIN).stem) if name not in held]
        if HOLDOUT in marks.values():
            notices.append(
                f"no pretrain_{HOLDOUT}.tsv: pretraining hears {PRETRAIN} without the recordings of valid_{HOLDOUT}.tsv"
            )
    events_R = counts_RC.sum(1)
    listed = {name for fold in folds for name in (*fold.train, *fold.evaluation)}
    if silent := int((events_R[corpus.indices(listed)] == 0).sum()):
        notices.append(f"{silent} recordings of train and valid manifests hold no event: they are taken as silence")
    return Folds(tuple(folds), tuple(notices), None if pretrain is None else tuple(pretrain))


def holdout_in(folder: Path) -> bool:
    """Whether a folder has the manifests of a hold-out under the published names."""
    return (Path(folder) / f"train_{HOLDOUT}.tsv").is_file()


def folds_in(folder: Path) -> bool:
    """Whether a folder has manifests of folds."""
    return bool(_numbers(Path(folder)))


def _numbers(folder: Path) -> list[int]:
    """Numbers of the folds that there are manifests of, in order."""
    return sorted(int(path.stem[6:]) for path in folder.glob("train_*.tsv") if path.stem[6:].isdigit())


def _marks(folder: Path, holdout: bool) -> dict[int, str]:
    """Number of each fold -> how the names of its manifests call it."""
    numbers = _numbers(folder)
    if holdout:
        if holdout_in(folder):
            return {0: HOLDOUT}
        if numbers != [0]:
            found = f"its folds are {', '.join(map(str, numbers))}" if numbers else "there are no folds either"
            raise ValueError(f"{folder}: no manifest train_{HOLDOUT}.tsv of a hold-out, and {found}")
    if not numbers:
        raise ValueError(f"{folder}: no manifest train_0.tsv; `a2v data folds` writes them")
    return {number: str(number) for number in numbers}


def manifests_digest(folder: Path) -> str:
    """Hex SHA-256 over names and contents of the manifests that `read_manifests` may read. Raises `ValueError` where
    there is no such folder."""
    if not Path(folder).is_dir():
        raise ValueError(f"{folder}: no such folder; it must hold manifests (train_0.tsv, valid_0.tsv, ...)")
    total = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.tsv")):
        if re.match(r"(train|valid|pretrain)(_|\.)", path.name):
            total.update(f"{path.name}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def shares_in(folds: Folds) -> list[float]:
    """The few-shot shares (0 to 1) that every fold was given, from small to large."""
    common = set.intersection(*(set(fold.shares) for fold in folds)) if len(folds) else set()
    return sorted(float(percent) / 100 for percent in common)


def _shares(folder: Path, mark: str) -> list[tuple[float, str]]:
    """Few-shot shares (0 to 1) of one fold, and how its manifests' names write them, from small to large."""
    found = (re.fullmatch(rf"train_{mark}_(\d+(?:\.\d+)?)", path.stem) for path in folder.glob(f"train_{mark}_*.tsv"))
    return sorted((float(name[1]) / 100, name[1]) for name in found if name and 0 < float(name[1]) < 100)


def _read_manifest(path: Path, corpus: Path, samples: dict[str, int]) -> list[str]:
    """Names of the recordings of a manifest. samples: of every recording of the corpus."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; each train_K.tsv needs its valid_K.tsv")
    root, rows, problems = parse_manifest(path)
    if problems:
        raise ValueError(f"{path}, row {problems[0][0]}: {problems[0][1]}")
    names: dict[str, int] = {}
    for row in rows:
        name = recording_of(row.name, root, samples)
        if name is None:
            raise ValueError(f"{path}, row {row.row}: recording {row.name!r} is not in {corpus}")
        if row.samples != samples[name]:
            raise ValueError(f"{path}, row {row.row}: {row.samples} samples; {row.name} has {samples[name]}")
        if name in names:
            raise ValueError(f"{path}, row {row.row}: {row.name} is in row {names[name]} already")
        names[name] = row.row
    if not names:
        raise ValueError(f"{path}: lists no recording; leave the file out, or name some")
    return list(names)


def recording_of(name: str, root: str, known: Container[str]) -> str | None:
    """The recording that a row means: a path in wav/, or in the folder above it, or below the manifest's own root."""
    if name in known:
        return name
    plain = posixpath.normpath(name.replace("\\", "/"))
    for prefix in ("", "wav/", root.rstrip("/") + "/"):
        if plain.startswith(prefix) and plain[len(prefix) :] in known:
            return plain[len(prefix) :]
    return None


def parse_manifest(path: Path) -> tuple[str, list[ManifestRow], list[tuple[int, str]]]:
    """A manifest's audio folder, its rows, and (row, what is wrong) of the rows that are no recording.

    Raises OSError where it cannot be read.
    """
    root, rows, problems = "", [], []
    check_regular(path)
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
