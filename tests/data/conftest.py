"""Small sources for the data tests, with every value known."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

MakeSource = Callable[..., Path]


@pytest.fixture
def make_source(tmp_path: Path) -> MakeSource:
    """Writes audio/NAME (arrays at `rate`, 16-bit unless told) and annotations.csv; returns the folder."""

    def make(
        audio: dict[str, np.ndarray],
        rows: Sequence[str] = (),
        rate: int = 8000,
        header: str = "file,onset_s,offset_s,label",
        subtype: str | None = "PCM_16",
    ) -> Path:
        folder = tmp_path / "source"
        (folder / "audio").mkdir(parents=True, exist_ok=True)
        for name, samples in audio.items():
            path = folder / "audio" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, samples, rate, subtype=subtype)
        (folder / "annotations.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
        return folder

    return make
