"""What a check expects of a corpus, and how it says what it found instead."""

from dataclasses import dataclass

from a2v_data.meerkat import MEERKAT_CLASSES


@dataclass(frozen=True)
class Expected:
    """Rate in Hz, samples in a segment, class names in the order of their numbers; by default those of MeerKAT."""

    sample_rate: int = 8000
    samples: int = 80_000
    classes: tuple[str, ...] = MEERKAT_CLASSES


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: its kind, the file, where in it (a row, an event), and what."""

    kind: str
    file: str
    where: str
    message: str


def shown(name: str) -> str:
    """A file's name as any terminal and any JSON can show it; bytes that are no UTF-8 and controls are escaped."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
