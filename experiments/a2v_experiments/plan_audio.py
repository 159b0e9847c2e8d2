"""How much there is to hear in a plan: of the packed corpus where it is there, else from headers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from a2v_data.corpus import Corpus
from a2v_data.sources import Source, open_source

from .progress import bar
from .recipe_sections import DataConfig

HEADERS = 1000  # recordings whose headers are read; of more, as many evenly among them


@dataclass(frozen=True)
class Audio:
    """Seconds of recordings, and of those that were listened to. exact: of the packed corpus, else from headers."""

    total_s: float
    labelled_s: float
    exact: bool


def audio_of(data: DataConfig, work: Path, corpus: Path | None) -> Audio:
    """How long the recordings are; corpus: the packed one's folder, None or not there where it is not packed."""
    if corpus is not None and (corpus / "corpus.json").is_file():
        opened = Corpus.open(corpus)
        rate = opened.sample_rate
        seconds = [(recording.n_samples / rate, recording.labelled) for recording in opened.recordings]
        return Audio(sum(s for s, _ in seconds), sum(s for s, labelled in seconds if labelled), True)
    if data.source == "synthetic":
        return Audio(data.synthetic.minutes * 60, data.synthetic.minutes * 60, False)
    return _from_headers(open_source(Path(data.source), data.annotations), data.labelled == "all")


def _from_headers(source: Source, all_labelled: bool) -> Audio:
    """Bad recordings count as none; they are reported when they are packed."""
    import soundfile

    listened = None
    if not all_labelled:
        listened = {path.stem for path in source.label_files()} if source.form == "meerkat" else source.read().annotated
    looked_at = source.names[:: max(1, len(source.names) // HEADERS)]
    total = labelled = 0.0
    with bar("reading headers", len(looked_at), "recordings") as shown:
        for name in looked_at:
            shown.update()
            try:
                seconds = soundfile.info(source.audio_folder / name).duration
            except (OSError, soundfile.LibsndfileError):
                continue
            total += seconds
            known = name if source.form != "meerkat" else Path(name).stem
            labelled += seconds if listened is None or known in listened else 0.0
    scale = len(source.names) / len(looked_at)
    return Audio(total * scale, labelled * scale, False)
