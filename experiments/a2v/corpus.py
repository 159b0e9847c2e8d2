"""A packed corpus as tables and waveforms."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from a2v_data.corpus import FULL_SCALE
from a2v_data.corpus import Corpus as Packed
from a2v_experiments.basics.errors import UserError
from numpy.typing import NDArray

from .telling import in_one_line, work_folder

if TYPE_CHECKING:
    import pandas


class Corpus:
    """Recordings with their labels, memory-mapped. `packed` is the store itself (a2v_data.corpus), `classes` and
    `sample_rate` (Hz, the highest where recordings kept their own: `rate`) are its; `problems` and `notices` are lines
    on what was left out or is odd."""

    def __init__(self, packed: Packed) -> None:
        self.packed = packed
        self.classes = list(packed.classes)
        self.sample_rate = packed.sample_rate
        self.problems, self.notices = packed.problems, packed.notices

    @cached_property
    def labels(self) -> pandas.DataFrame:
        """Every labelled event, by recording and onset: recording, onset_s, offset_s, label."""
        import pandas as pd

        events, names = self.packed.events, [one.name for one in self.packed.recordings]
        return pd.DataFrame(
            {
                "recording": [names[number] for number in events["recording"]],
                "onset_s": events["onset_s"],
                "offset_s": events["offset_s"],
                "label": [self.classes[number] for number in events["class"]],
            }
        )

    @cached_property
    def recordings(self) -> pandas.DataFrame:
        """One row for each: recording, duration_s, labelled (was it listened to?), events, source_rate (Hz of the
        file). Where some are labelled as a whole only, `present` has the classes that call in these."""
        import pandas as pd

        packed = self.packed
        counts = np.bincount(packed.events["recording"], minlength=len(packed.recordings))
        table = pd.DataFrame(
            {
                "recording": [one.name for one in packed.recordings],
                "duration_s": [packed.duration_s(number) for number in range(len(packed.recordings))],
                "labelled": [one.labelled for one in packed.recordings],
                "events": counts,
                "source_rate": [one.source_rate for one in packed.recordings],
            }
        )
        if packed.weak:
            table["present"] = [packed.weak.get(one.name) for one in packed.recordings]
        return table

    def rate(self, recording: str) -> int:
        """Hz of a recording's samples. Raises UserError for one that is not there."""
        with in_one_line():
            return self.packed.rate(self.packed.indices([recording])[0])

    def waveform(self, recording: str, onset_s: float = 0.0, offset_s: float | None = None) -> NDArray[np.float32]:
        """Samples (N,) of a recording in [-1, 1] at its `rate`, from onset to offset (None: its end). Raises
        UserError for a recording that is not there or a time outside it."""
        with in_one_line():
            number = self.packed.indices([recording])[0]
        one = self.packed.recordings[number]
        end_s, rate = self.packed.duration_s(number), self.packed.rate(number)
        first, last = (round((end_s if time is None else time) * rate) for time in (onset_s, offset_s))
        if not 0 <= first < last <= one.n_samples:
            raise UserError(
                f"{recording}: {onset_s} s to {offset_s} s: expected times from 0 to {end_s:.6g} s, in order"
            )
        samples = self.packed.audio[one.offset + first : one.offset + last]
        return np.asarray(samples, np.float32) / np.float32(FULL_SCALE)

    def __repr__(self) -> str:
        hours = self.packed.seconds() / 3600
        return (
            f"Corpus({len(self.packed.recordings)} recordings, {hours:.3g} h at {self.sample_rate} Hz,"
            f" {len(self.packed.events)} events of {', '.join(self.classes) or 'no class'})"
        )


def load_corpus(
    source: str | os.PathLike[str],
    sample_rate: int | None = None,
    work: str | os.PathLike[str] | None = None,
    **settings: Any,
) -> Corpus:
    """A packed corpus, or a folder of recordings and annotations, which is packed first.

    source: a folder that `a2v data pack` or an experiment made, one of recordings as `data.source` takes it, or
    'synthetic'. sample_rate: Hz, needed for recordings. settings: other keys of a recipe's `data` section
    (labelled="all", annotations={...}). It is packed into the work folder (None: A2V_WORK or a2v-runs) once, and an
    experiment with the same settings takes it from there. Raises UserError for a folder that is neither, or where
    annotations cannot be read.
    """
    with in_one_line():
        if (Path(source) / "corpus.json").is_file():
            if sample_rate is not None or settings:
                given = ", ".join([*(["sample_rate"] if sample_rate is not None else []), *settings])
                raise UserError(f"{source}: is packed already: leave out {given}, or name the folder of recordings")
            return Corpus(Packed.open(Path(source)))
        if sample_rate is None:
            raise UserError(f"{source}: is no packed corpus: to pack its recordings, say sample_rate=... (Hz)")
        from a2v_experiments.recipe.errors import explain
        from a2v_experiments.recipe.sections import DataConfig
        from pydantic import ValidationError

        try:
            data = DataConfig.model_validate({"source": os.fspath(source), "sample_rate": sample_rate, **settings})
        except ValidationError as error:
            raise UserError(explain(error, DataConfig, "load_corpus")) from None
        return Corpus(packed_of(data, work_folder(work)))


def packed_of(data: Any, work: Path) -> Packed:
    """The packed store of a recipe's `data` section in a work folder, made where it is not there yet."""
    from a2v_experiments.stages.packing import origin_of, packed
    from a2v_experiments.stages.specs import data_spec

    if data.source != "synthetic" and not Path(data.source).is_dir():
        raise UserError(f"{data.source}: no such folder")
    work.mkdir(parents=True, exist_ok=True)
    origin = origin_of(data, work)
    return packed(origin, data_spec(data, origin.fingerprint), work)
