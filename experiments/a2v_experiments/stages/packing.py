"""Recordings and their packed store in the work folder. Nothing here knows MLflow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from a2v_data.corpus import Corpus

from ..basics.errors import naming_full_disk
from ..basics.progress import advancing, bar
from ..recipe.sections import DataConfig
from .specs import StageSpec


def synthetic_folder(data: DataConfig, work: Path) -> Path:
    """Where the synthetic corpus is made."""
    beside = "-accelerometer" if data.synthetic.accelerometer else ""
    return work / f"synthetic-{data.synthetic.minutes:g}min-seed{data.synthetic.seed}{beside}"


def source_folder(data: DataConfig, work: Path) -> Path:
    """The folder of recordings; the synthetic corpus is made where it is not there yet."""
    from a2v_data.synth import STATE, synthesise

    if data.source == "synthetic":
        folder = synthetic_folder(data, work)

        def make() -> None:
            with naming_full_disk(folder), bar("synthesising", 0, "segments") as shown:
                made = data.synthetic
                synthesise(folder, made.minutes, made.seed, advancing(shown), made.accelerometer)

        try:
            make()
        except (OSError, ValueError):
            if not (folder / STATE).is_file():
                raise
            make()  # another process was faster: there is nothing left to do
        return folder
    return Path(data.source)


@dataclass(frozen=True)
class Origin:
    """A folder of recordings, what the recipe calls it, and the fingerprint of everything in there."""

    named: str
    folder: Path
    fingerprint: str


def origin_of(data: DataConfig, work: Path, keep: bool = True) -> Origin:
    """The recordings, as they are. keep: hashes are kept in the work folder, so that a file is read once."""
    from a2v_data.sources import source_fingerprint

    source = source_folder(data, work)
    mark = source_fingerprint(source, work / "content-hashes.json" if keep else None, data.annotations, data.streams)
    return Origin(data.source, source, mark)


def corpus_folder(work: Path, data: str) -> Path:
    """Where the packed corpus of a data stage with this fingerprint lies."""
    return work / "corpora" / data[:16]


def packed(source: Origin, spec: StageSpec, work: Path, mark: str | None = None) -> Corpus:
    """The packed store of recordings, made where the work folder has none yet. spec: `data_spec` of the source; mark:
    the fingerprint of the stage that is reused (None: that of the spec)."""
    from a2v_data.pack import PackConfig, pack
    from a2v_data.scheduling import on_cores

    folder = corpus_folder(work, mark or spec.fingerprint)
    if not (folder / "corpus.json").is_file():
        with naming_full_disk(folder), bar("packing", 0, "s of audio") as shown:
            # strict: an experiment on other labels than were meant would have wrong scores, for every fold
            pack(source.folder, folder, PackConfig(**spec.config), advancing(shown), on_cores(), strict=True)
    return Corpus.open(folder)
