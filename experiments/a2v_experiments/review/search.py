"""`a2v search`: what is asked for, and the table of what was found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from a2v_data.annotation_writers import EventRow, annotation_csv
from a2v_data.audio import AudioError, read_info
from a2v_data.storage import write_text_aside

from ..basics.errors import UserError
from ..basics.tables import text_table
from ..basics.terminal import one_line
from ..embeddings.hear import open_listener
from ..embeddings.search import Found
from ..predict.run import Progress
from .calls import Calls
from .similar import corpus_of, listen, query_of, source_of

LONGEST_S = 30.0  # of a query: the mean of more says nothing of a call
PART = re.compile(r"(?P<file>.+)@(?P<start>[0-9.]+)-(?P<stop>[0-9.]+)")


@dataclass(frozen=True)
class Query:
    """A part of a recording of the review (`file`, its name), or of any other audio file (`path`)."""

    file: str | None
    path: Path
    start_s: float
    stop_s: float
    length_s: float  # of the file

    @property
    def bare(self) -> bool:
        """Whether it is a file of nothing but the call."""
        return self.file is None and self.start_s <= 0 and self.stop_s >= self.length_s

    @property
    def name(self) -> str:
        """What its likes are called where nobody says."""
        return self.path.stem


def read_query(text: str, start_s: float | None, stop_s: float | None, calls: Calls) -> Query:
    """What CLIP, --start and --end mean. Raises UserError."""
    part = PART.fullmatch(text)
    file, path = _place(text, calls)
    if path is None and part is not None:
        file, path = _place(part["file"], calls)
        if start_s is not None or stop_s is not None:
            raise UserError(f"{text}: says where the clip lies; give no --start and --end")
        try:
            start_s, stop_s = float(part["start"]), float(part["stop"])
        except ValueError:
            raise UserError(f"{text}: should be FILE@START-END, in seconds") from None
    if path is None:
        raise UserError(
            f"{text}: is no audio file and none of the {len(calls.recordings)} recordings of {calls.path}; give a file,"
            f" or FILE@START-END of one of them, e.g. {one_line(next(iter(calls.recordings)))}@12.5-13.1"
        )
    try:
        length_s = read_info(path, calls.channel if file else 0).duration_s
    except (AudioError, OSError) as error:
        raise UserError(f"{path}: {error}") from None
    begin_s, end_s = start_s or 0.0, length_s if stop_s is None else stop_s
    if not 0 <= begin_s < end_s or end_s > length_s + 0.1:
        raise UserError(f"{text}: {begin_s:g} to {end_s:g} s is no part of it; it is {length_s:.3f} s long")
    if end_s - begin_s > LONGEST_S:
        raise UserError(f"{text}: {end_s - begin_s:g} s are more than a call; name its part: --start S --end S")
    return Query(file, path, begin_s, min(end_s, length_s), length_s)


def _place(text: str, calls: Calls) -> tuple[str | None, Path | None]:
    if text in calls.recordings:
        return text, calls.recordings[text].path
    path = Path(text)
    if not path.is_file():
        return None, None
    for name, one in calls.recordings.items():
        if one.path == path.absolute() or (one.path.name == path.name and one.path.resolve() == path.resolve()):
            return name, path
    return None, path


def search(
    calls: Calls,
    query: Query,
    top: int,
    progress: Progress,
    model: str | None = None,
    processes: int | None = None,
    tracking_uri: str | None = None,
) -> tuple[list[Found], dict[str, str]]:
    """The `top` stretches most similar to a query, the most similar first, and recordings that could not be searched
    with why. Makes embeddings that are not there. Raises UserError as `similar.listen`."""
    units = listen(calls, model, progress, processes, tracking_uri)
    if not units.files:
        name, why = next(iter(units.left_out.items()))
        raise UserError(f"{calls.path}: none of its recordings can be searched; {one_line(name)}: {why}")
    corpus, without = corpus_of(units), []
    if query.file is not None:
        query_D = query_of(corpus, query.file, query.start_s, query.stop_s)
        without = [(query.file, query.start_s, query.stop_s)]
    else:
        with open_listener(model or source_of(calls), tracking_uri, calls.channel, calls.folder) as listener:
            if listener.about.mark != units.about.mark:
                raise UserError("--model: give it, the one that was used last here is another one by now")
            heard_UE, begin_s = listener.units_around(query.path, query.start_s, query.stop_s)
        query_D = corpus.query(heard_UE[:, : units.about.dim], query.start_s - begin_s, query.stop_s - begin_s)
    found = corpus.search(query_D, query.stop_s - query.start_s, top, without)
    lengths = {name: one.duration_s for name, one in calls.recordings.items()}
    return [replace(one, stop_s=min(one.stop_s, lengths[one.file])) for one in found], units.left_out


def as_text(found: Sequence[Found]) -> str:
    """The table for a terminal."""
    rows = [
        [str(rank), one.file, f"{one.start_s:.2f}", f"{one.stop_s:.2f}", f"{one.similarity:.3f}"]
        for rank, one in enumerate(found, start=1)
    ]
    return text_table(["rank", "file", "onset", "offset", "similarity"], rows, left=2)


def write_found(path: Path, found: Sequence[Found], label: str) -> None:
    """A table that `a2v review` takes: the similarity stands as likelihood, from -1 ... 1 to 0 ... 1."""
    rows = [EventRow(one.file, one.start_s, one.stop_s, label, likelihood=one.likelihood) for one in found]
    write_text_aside(path, annotation_csv(rows, extra=["likelihood"]))


def folder_of(calls: Calls) -> Path:
    """The folder that the names of the recordings are relative to."""
    name, one = next(iter(calls.recordings.items()))
    parts = len(Path(name).parts)
    return one.path.parents[parts - 1] if one.path.parts[-parts:] == Path(name).parts else one.path.parent
