"""Recordings: each container that is read, damaged, between two that are whole."""

from pathlib import Path
from random import Random

import numpy as np
import soundfile
from fuzz_mutate import damage_bytes
from fuzz_run import Case, Family

FORMATS = {
    "wav": ("WAV", "PCM_16"), "w64": ("W64", "PCM_16"), "rf64": ("RF64", "PCM_16"), "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"), "mp3": ("MP3", "MPEG_LAYER_III"), "aiff": ("AIFF", "PCM_16"), "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"), "voc": ("VOC", "PCM_16"),
}  # fmt: skip
RATE = 8000


def _ready(folder: Path) -> None:
    noise_N = np.random.default_rng(0).normal(0, 0.1, RATE // 2)
    for suffix, (form, subtype) in FORMATS.items():
        soundfile.write(folder / f"whole.{suffix}", noise_N, RATE, format=form, subtype=subtype)


def _make(rng: Random, ready: Path, folder: Path) -> Case:
    recordings = folder / "recordings"
    recordings.mkdir()
    for name in ("a.wav", "z.wav"):
        (recordings / name).write_bytes((ready / "whole.wav").read_bytes())
    suffix = rng.choice(sorted(FORMATS))
    what, data = damage_bytes(rng, (ready / f"whole.{suffix}").read_bytes())
    (recordings / f"m.{suffix}").write_bytes(data)
    return Case(f"{suffix}: {what}", ("data", "check", "recordings", "--jobs", "1"))


AUDIO = Family("audio", _make, _ready)
