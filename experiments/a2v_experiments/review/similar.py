"""What a model hears in the recordings of a review: made where it is missing, searched by example.

`similar(calls, file, start_s, stop_s, top)` is for the page: it needs no model, and answers from memory-mapped files
(embeddings/units.py); what it needs is made by `listen`, that is by `a2v search` and `a2v review --suggest`.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from a2v_data.storage import file_digest
from a2v_model.checkpoints import WEIGHTS

from ..basics.errors import UserError
from ..basics.places import command
from ..embeddings.hear import Listener, hear, open_listener
from ..embeddings.search import Corpus, Vector
from ..embeddings.units import Units, kept_units, last_about
from ..models import is_uri, split_name
from ..predict.run import Progress
from .calls import Calls

TOP = 20


def listen(
    calls: Calls,
    model: str | None,
    progress: Progress,
    processes: int | None = None,
    tracking_uri: str | None = None,
) -> Units:
    """What a model hears in all recordings of a review; what is there already is not made again.

    model: a folder or URI, a detector or pretrained only; None: the one that was used last here, else the one that the
    calls were predicted with, where its place is known. Raises UserError where it is not.
    """
    recordings = paths(calls)
    if model is None and last_about(calls.folder) is not None:
        try:
            return kept_units(calls.folder, recordings, making(calls))
        except UserError:
            pass  # recordings were added or changed
    source = model or source_of(calls)
    with open_listener(source, tracking_uri, calls.channel, calls.folder) as listener:
        if model is None:
            check_same(calls, listener)
        return hear(listener, calls.folder, recordings, progress, processes)


def similar(
    calls: Calls, file: str, start_s: float, stop_s: float, top: int = TOP
) -> list[tuple[str, float, float, float]]:
    """(file, start_s, stop_s, similarity) of the stretches that sound most like a region of one of the recordings, the
    most similar first; similarity is a cosine. The first call reads all embeddings once, later ones are faster.

    Raises UserError where embeddings were not made yet or the region is none of a recording.
    """
    last = last_about(calls.folder)
    recordings = tuple(sorted(paths(calls).items()))
    corpus = _corpus(calls.folder, recordings, making(calls), last.mark if last else "")
    found = corpus.search(query_of(corpus, file, start_s, stop_s), stop_s - start_s, top, [(file, start_s, stop_s)])
    return [(one.file, one.start_s, one.stop_s, one.similarity) for one in found]


def query_of(corpus: Corpus, file: str, start_s: float, stop_s: float) -> Vector:
    """Mean embedding (D,) of a region of a recording. Raises UserError."""
    if file not in corpus.embeddings:
        raise UserError(f"{file}: is none of the recordings that can be searched")
    if not 0 <= start_s < stop_s:
        raise UserError(f"{file}: {start_s:g} to {stop_s:g} s should be 0 <= start < end")
    try:
        return corpus.query(corpus.embeddings[file], start_s, stop_s)
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None


def corpus_of(units: Units) -> Corpus:
    """All recordings, to be searched."""
    return Corpus({name: units.embedding(name) for name in units.files}, units.about.unit_s)


def paths(calls: Calls) -> dict[str, Path]:
    """The recordings by name."""
    return {name: one.path for name, one in calls.recordings.items()}


def making(calls: Calls) -> str:
    """The command that makes embeddings."""
    return command("search", "FILE@START-END", "--in", calls.path, "--model", "MODEL")


def source_of(calls: Calls) -> str:
    """Where the model lies that no one named. Raises UserError where that is not known."""
    last = last_about(calls.folder)
    if last is not None and (is_uri(last.source) or _digest(Path(last.source)) == last.digest):
        return last.source
    name, _ = split_name(calls.model)
    if is_uri(name):
        return name
    said = f"the one that {calls.path} was predicted with is {calls.model}" if calls.model else "any a2v model will do"
    raise UserError(f"--model: give the folder or URI of a model; {said}")


def check_same(calls: Calls, listener: Listener) -> None:
    """Raise UserError where a model that was looked up is another one by now."""
    last = last_about(calls.folder)
    name, digest = split_name(calls.model)
    expected = last.digest if last is not None and last.source == listener.about.source else digest
    if expected and not listener.about.digest.startswith(expected):
        said = last.model if last is not None else calls.model
        raise UserError(f"{name or listener.about.source}: is now another model than {said}; give --model")


def _digest(folder: Path) -> str:
    path = folder / WEIGHTS
    return file_digest(path)[:16] if path.is_file() else ""


@lru_cache(maxsize=2)
def _corpus(folder: Path, recordings: tuple[tuple[str, Path], ...], making: str, mark: str) -> Corpus:
    """mark: of what was last asked for, so that another model's is another corpus."""
    return corpus_of(kept_units(folder, dict(recordings), making))
