"""How much there is to hear in a plan: of the packed corpus where it is there, else from headers."""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from pathlib import Path

from a2v_data.audio import AudioError, as_reason
from a2v_data.corpus import Corpus
from a2v_data.labelled import LabelledSetting
from a2v_data.listing import labelled_times
from a2v_data.meerkat import label_path, read_labels
from a2v_data.prepared import joined_annotations, read_prepared
from a2v_data.sources import Source, open_source

from ..basics.progress import bar
from ..recipe.labelled import with_rule
from ..recipe.sections import DataConfig

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
        total_s = opened.seconds()
        return Audio(total_s, float(labelled_times(opened).sum()), True)
    if data.source == "synthetic":
        return Audio(data.synthetic.minutes * 60, data.synthetic.minutes * 60, False)
    return _from_headers(open_source(Path(data.source), data.annotations), with_rule(data).labelled)


def _from_headers(source: Source, rule: LabelledSetting) -> Audio:
    """Bad recordings count as none; they are reported when they are packed."""
    import soundfile

    labelled_part = _labelled(source, rule)
    looked_at = source.names[:: max(1, len(source.names) // HEADERS)]
    total = labelled = 0.0
    with bar("reading headers", len(looked_at), "recordings") as shown:
        for name in looked_at:
            shown.update()
            try:
                path = source.audio_folder / name
                with as_reason(path, "is not readable", "see `a2v data check`"):
                    seconds = soundfile.info(path).duration
            except AudioError:
                continue
            total += seconds
            labelled += labelled_part(name, seconds)
    scale = len(source.names) / len(looked_at)
    return Audio(total * scale, labelled * scale, False)


def _labelled(source: Source, rule: LabelledSetting) -> Callable[[str, float], float]:
    """How much of a file of so many seconds counts as labelled."""
    if source.form != "meerkat":
        report = source.read()
        if (regions := report.regions) is not None:
            return lambda name, seconds: sum(
                max(min(offset, seconds) - onset, 0.0) for onset, offset in regions.get(name, ())
            )
        named: Set[str] = report.annotated if rule == "annotated" else report.with_events
        if rule == "all":  # but what is labelled as a whole only
            named = set(source.names) - (report.weak.keys() - report.annotated)
        return lambda name, seconds: seconds if name in named else 0.0
    whole = _labelled_segments(source, rule)
    return lambda name, seconds: seconds if whole(name) else 0.0


def _labelled_segments(source: Source, rule: LabelledSetting) -> Callable[[str], bool]:
    """Whether a segment counts as labelled. Label files are read as they are asked for: there may be 384 592."""
    if rule == "all":
        return lambda name: True
    prepared = read_prepared(source.folder) if rule == "with_events" else None
    if prepared is not None:  # a recording is labelled with all of its segments
        recordings = joined_annotations(source, prepared).with_events
        return {part.name for name in recordings for part in prepared.recordings[name].segments}.__contains__

    def in_its_file(name: str) -> bool:
        path = label_path(source.label_folder, name)
        return path is not None and (rule == "annotated" or bool(read_labels(path, name, name)[0]))

    return in_its_file
