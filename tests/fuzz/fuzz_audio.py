"""Recordings: each container that is read, damaged, between two that are whole, which must be none the worse for it."""

import csv
import struct
from pathlib import Path
from random import Random

import numpy as np
import soundfile
import torch
from a2v_model import Detector, save_model, write_thresholds
from a2v_model.config import FinetuneConfig, ModelConfig
from fuzz_mutate import LONG_SIZES, damage_bytes
from fuzz_run import Case, Family

FORMATS = {  # name: ending, libsndfile's format and subtype, channels
    "wav": ("wav", "WAV", "PCM_16", 1), "wav24": ("wav", "WAV", "PCM_24", 4), "wavf": ("wav", "WAV", "FLOAT", 2),
    "wavx": ("wav", "WAVEX", "DOUBLE", 1), "ulaw": ("wav", "WAV", "ULAW", 1), "ima": ("wav", "WAV", "IMA_ADPCM", 1),
    "ms": ("wav", "WAV", "MS_ADPCM", 2), "w64": ("w64", "W64", "PCM_16", 1), "rf64": ("rf64", "RF64", "PCM_16", 1),
    "bw64": ("wav", "RF64", "PCM_24", 2), "flac": ("flac", "FLAC", "PCM_16", 1), "fl24": ("flac", "FLAC", "PCM_24", 2),
    "ogg": ("ogg", "OGG", "VORBIS", 1), "opus": ("opus", "OGG", "OPUS", 1), "mp3": ("mp3", "MP3", "MPEG_LAYER_III", 1),
    "aiff": ("aiff", "AIFF", "PCM_16", 1), "aifc": ("aifc", "AIFF", "FLOAT", 3), "au": ("au", "AU", "PCM_16", 1),
    "caf": ("caf", "CAF", "PCM_16", 1), "alac": ("caf", "CAF", "ALAC_16", 1), "voc": ("voc", "VOC", "PCM_16", 1),
    "sph": ("sph", "NIST", "PCM_16", 1),
}  # fmt: skip
RATE = 8000
WHOLE = ("a.wav", "z.wav")
CHUNKS = (b"fmt ", b"data", b"ds64", b"fact", b"SSND", b"COMM", b"desc", b"RIFF", b"RF64", b"BW64", b"riff", b"FORM")
RATES = (0, 1, 7, 99, 100, 7999, 384_001, 10_000_000, 999_999_937, 4_000_000_000, 0xFFFFFFFF)


def _ready(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name, (ending, form, subtype, channels) in FORMATS.items():
        path = folder / f"whole-{name}.{ending}"
        soundfile.write(path, rng.normal(0, 0.1, (RATE // 2, channels)), RATE, format=form, subtype=subtype)
        if name == "bw64":
            path.write_bytes(b"BW64" + path.read_bytes()[4:])


def _damaged(rng: Random, ready: Path, folder: Path) -> str:
    """What was done. recordings/ has a damaged recording between two whole ones."""
    recordings = folder / "recordings"
    recordings.mkdir()
    for name in WHOLE:
        (recordings / name).write_bytes((ready / "whole-wav.wav").read_bytes())
    name = rng.choice(sorted(FORMATS))
    ending = FORMATS[name][0]
    data = (ready / f"whole-{name}.{ending}").read_bytes()
    damage = rng.choice((damage_bytes, damage_bytes, damage_bytes, _chunk, _rate))
    if FORMATS[name][2] in ("FLOAT", "DOUBLE") and rng.random() < 0.3:
        damage = _loud
    what, data = damage(rng, data)
    (recordings / f"m.{ending}").write_bytes(data)
    return f"{name}: {what}"


def _chunk(rng: Random, data: bytes) -> tuple[str, bytes]:
    """A chunk's length, or what is left of it."""
    places = [(at, name) for name in CHUNKS if (at := data.find(name)) >= 0]
    if not places:
        return damage_bytes(rng, data)
    at, name = rng.choice(places)
    if rng.random() < 0.3:
        end = at + rng.randrange(4, 32)
        return f"{name!r} cut", data[:end] + data[end + rng.choice((2, 4, 8, len(data))) :]
    at += 16 if data[:4] == b"riff" else 4
    width = 8 if data[:4] in (b"riff", b"caff") else 4
    value = rng.choice((*LONG_SIZES, rng.randrange(1 << 62))) & ((1 << 8 * width) - 1)
    order = "big" if data[:4] in (b"FORM", b"caff") else "little"
    return f"length of {name!r}", data[:at] + value.to_bytes(width, order) + data[at + width :]


def _rate(rng: Random, data: bytes) -> tuple[str, bytes]:
    """Another sample rate, in each place where the right one stands."""
    rate = rng.choice(RATES)
    for order in ("little", "big"):
        data = data.replace(RATE.to_bytes(4, order), rate.to_bytes(4, order))
    return f"rate {rate}", data


def _loud(rng: Random, data: bytes) -> tuple[str, bytes]:
    """Samples that are no numbers, or very large ones."""
    value, count = rng.choice((1e10, 1e13, 1e30, 3e38, float("nan"), float("inf"))), rng.choice((1, 3000))
    at = rng.randrange(len(data) // 2, len(data)) & ~7
    samples = struct.pack(">f" if data[:4] == b"FORM" else "<f", value) * count
    return f"{count} samples of {value}", data[:at] + samples[: len(data) - at] + data[at + len(samples) :]


def _make(rng: Random, ready: Path, folder: Path) -> Case:
    what = _damaged(rng, ready, folder)
    rows = "".join(f"{name},0.1,0.3,cc\n" for name in WHOLE)
    (folder / "recordings" / "annotations.csv").write_text(f"file,onset_s,offset_s,label\n{rows}")
    if rng.random() < 0.5:
        return Case(f"{what}, check", ("data", "check", "recordings", "--jobs", "1"), check=_whole_unnamed)
    rate = rng.choice((("--sample-rate", "8000"), ("--sample-rate", "4000"), ("--sample-rate", "22050")))
    argv = ("data", "prepare", "recordings", "--out", "out", *rate, "--labelled", "all", "--processes", "1")
    return Case(f"{what}, prepare", argv, check=_whole_prepared)


def _whole_unnamed(folder: Path, output: str) -> str | None:
    return next((f"a whole one has a problem: {name}" for name in WHOLE if name in output), None)


def _whole_prepared(folder: Path, output: str) -> str | None:
    found = len(list((folder / "out" / "wav").glob("**/*.wav")))
    return None if found >= len(WHOLE) else f"{found} segments of the two whole ones"


AUDIO = Family("audio", _make, _ready)


def small_detector(folder: Path) -> Path:
    """The folder of a detector that costs next to nothing, of random weights."""
    layers = [[8, 10, 5], [12, 3, 2], [16, 3, 2], [16, 3, 2]]
    encoder = {"dim": 16, "heads": 2, "depth": 2, "prenet_depth": 1, "positional_depth": 1, "positional_width": 9}
    front_end = {"sample_rate": RATE, "sinc_filters": 8, "layers": layers}
    model = ModelConfig.model_validate({"front_end": front_end, "encoder": {**encoder, "positional_groups": 4}})
    torch.manual_seed(0)
    detector = Detector(model, FinetuneConfig(average_layers=2, channel_mask_length=4), ["cc", "sn"])
    save_model(detector, folder, {})
    write_thresholds(folder, {"cc": 0.5, "sn": 0.5}, {"method": "avg", "window_s": 0.05})
    return folder


def _ready_to_predict(folder: Path) -> None:
    _ready(folder)
    small_detector(folder / "model")


def _make_predict(rng: Random, ready: Path, folder: Path) -> Case:
    what = _damaged(rng, ready, folder)
    more = rng.choice(((), ("--channel", "mix"), ("--likelihoods", "npz"), ("--embeddings", "frames")))
    argv = ("predict", "recordings", "--model", str(ready / "model"), "--out", "out", "--processes", "1", *more)
    return Case(" ".join((what, *more)), argv, check=_whole_predicted)


def _whole_predicted(folder: Path, output: str) -> str | None:
    """The whole ones are done; the damaged one is, or has a reason."""
    table = folder / "out" / "recordings.csv"
    if not table.is_file():
        return "no recordings.csv"
    status = {row["file"]: row["status"] for row in csv.DictReader(table.open(encoding="utf-8", newline=""))}
    undone = [name for name in WHOLE if status.get(name) != "done"]
    if undone:
        return f"{undone[0]} is {status.get(undone[0])}"
    return None if len(status) == 3 and all(status.values()) else f"the damaged one has no status: {status}"


PREDICT = Family("predict", _make_predict, _ready_to_predict)
