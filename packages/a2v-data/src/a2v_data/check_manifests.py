"""What can be wrong in the manifests of a corpus (their form: `manifests.py`)."""

import re
import unicodedata
from collections.abc import Iterator, Set
from pathlib import Path

from a2v_data.check_problem import Problem, shown
from a2v_data.manifests import parse_manifest, recording_of

PART = re.compile(r"(train|valid)(?:[_-](.+))?")


def check_manifests(
    folder: Path, wav: Path, samples: dict[str, int | None], labelled: set[str], silent: Set[str] = frozenset()
) -> tuple[list[Problem], list[str]]:
    """Problems and notices of every *.tsv in `folder`.

    samples: of each recording, by its path in `wav`; None where it is unreadable, which is told elsewhere. labelled:
    those with a label file. `train_*` and `valid_*` must be labelled and have no recording in common. silent: those
    that do not count as labelled though they have a label file, since it holds no event; a manifest of labels that
    lists them is worth a notice.
    """
    paths = sorted(path for path in folder.glob("*.tsv") if not path.name.startswith("."))
    problems: list[Problem] = []
    notices: list[str] = []
    elsewhere: list[str] = []
    listed: dict[str, dict[str, int]] = {}
    composed: dict[str, str] = {}
    if not paths:
        return [Problem("layout", folder.name, "", "has no manifest (*.tsv)")], []
    for path in paths:
        name = shown(f"{folder.name}/{path.name}")
        try:
            root, rows, wrong = parse_manifest(path)
        except OSError as error:
            problems.append(Problem("manifest", name, "", f"cannot be read ({error.strerror})"))
            continue
        problems += [Problem("manifest", name, f"row {row}", message) for row, message in wrong]
        if not rows and not wrong:
            problems.append(Problem("manifest", name, "", "lists no recording"))
        if root and Path(root) not in (wav, wav.absolute(), wav.resolve()):
            elsewhere.append(name)
        needs_labels = PART.fullmatch(path.stem) is not None
        seen = listed.setdefault(path.stem, {})
        for row in rows:
            recording = recording_of(row.name, root, samples)
            where, told = f"row {row.row}", shown(row.name)
            if recording is None:
                composed = composed or {unicodedata.normalize("NFC", known): known for known in samples}
                close = composed.get(unicodedata.normalize("NFC", row.name))
                hint = f"; {close} is there, its accents are stored differently" if close else ""
                problems.append(Problem("missing file", name, where, f"{told} does not exist{hint}"))
                continue
            if recording in seen:
                problems.append(Problem("listed twice", name, where, f"{told} is in row {seen[recording]} already"))
                continue
            seen[recording] = row.row
            has = samples[recording]
            if has is not None and row.samples != has:
                problems.append(Problem("frame count", name, where, f"{row.samples} frames, {told} has {has}"))
            if needs_labels and recording not in labelled:
                problems.append(Problem("not labelled", name, where, f"{told} has no label file"))
        if needs_labels and (without := len(silent & seen.keys())):
            notices.append(f"{name}: {without} of its recordings hold no event; folds.manifests takes them as silence")
    problems += _in_both(folder.name, listed, notices)
    if elsewhere:
        notices.append(
            f"{len(elsewhere)} manifests name another audio folder than {wav} (the first is {elsewhere[0]}); "
            "a2v goes by the names below it"
        )
    unlisted = len(samples) - len(set().union(*listed.values()))
    if unlisted:
        notices.append(f"{unlisted} recordings are in no manifest")
    return problems, notices


def _in_both(folder: str, listed: dict[str, dict[str, int]], notices: list[str]) -> Iterator[Problem]:
    """Recordings in a train manifest and in the valid manifest of its fold."""
    parts = {stem: found for stem in listed if (found := PART.fullmatch(stem))}
    valid = {found[2] or "": stem for stem, found in parts.items() if found[1] == "valid"}
    lonely = []
    used = set()
    for stem, found in parts.items():
        if found[1] != "train":
            continue
        fold = _fold_of(found[2] or "", list(valid))
        if fold is None:
            lonely.append(stem)
            continue
        used.add(fold)
        both = sorted(set(listed[stem]) & set(listed[valid[fold]]))
        if both:
            row, more = listed[stem][both[0]], f" (and {len(both) - 1} more)" if len(both) > 1 else ""
            message = f"{shown(both[0])} is in {shown(valid[fold])}.tsv too{more}; a recording is in one of them"
            yield Problem("train and valid", shown(f"{folder}/{stem}.tsv"), f"row {row}", message)
    lonely += [stem for fold, stem in valid.items() if fold not in used]
    notices += [f"{folder}/{shown(stem)}.tsv has no counterpart of its fold" for stem in lonely]


def _fold_of(name: str, folds: list[str]) -> str | None:
    """The valid manifest's name that belongs to a train manifest's: the same, or without its share (0_25, 25_0)."""
    around = [fold for fold in folds if name == fold or not fold or name.startswith((f"{fold}_", f"{fold}-"))]
    around = around or [fold for fold in folds if name.endswith((f"_{fold}", f"-{fold}"))]
    return max(around, key=len, default=None)
