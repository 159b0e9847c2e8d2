"""What an import ends with, and the README that says so in the new folder."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from a2v_data.storage import write_text_aside

LISTED = 10


@dataclass
class Imported:
    """A new source folder: how much is in it, what was left out (`problems`), and what is worth knowing."""

    folder: Path
    recordings: int = 0
    labelled: int = 0
    events: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)


def some_names(names: Sequence[str]) -> str:
    """The first ten names, and how many more there are."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def write_readme(folder: Path, title: str, about: Sequence[str], options: dict[str, object], found: Imported) -> None:
    """README.md of an imported folder: where it is from, what was done with which options, what was left out."""
    lines = [f"# {title}", "", *about, "", "## What was done", ""]
    lines += [f"- {name}: {value}" for name, value in options.items()]
    lines += [
        f"- {found.recordings} recordings ({found.seconds / 3600:.2f} h), {found.labelled} of them with annotations or "
        f"listened to without any call; {found.events} events",
        *(f"- {notice}" for notice in found.notices),
        "",
        "The recordings are as they were published, whole and at their own rate. To resample them and cut them into",
        "segments that do not overlap, the last of each recording padded with zeros (24 kHz and 5 s as animal2vec's",
        "model of xeno-canto and NIPS4Bplus):",
        "",
        "    a2v data prepare THIS_FOLDER --out NEW_FOLDER --sample-rate 24000 --segment-s 5",
    ]
    if found.problems:
        lines += ["", "## Left out", "", *(f"- {problem}" for problem in found.problems)]
    write_text_aside(folder / "README.md", as_text("\n".join(lines) + "\n"))


def as_text(text: str) -> str:
    """Text that can be written; what a file's name holds that is no text becomes an escape."""
    return text.encode("utf-8", "backslashreplace").decode()
