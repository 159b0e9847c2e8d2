"""Damaged recordings: whatever their bytes are, reading them raises `AudioError` and nothing else, and soon."""

import struct
import sys
from pathlib import Path
from random import Random

import numpy as np
import pytest
import soundfile
from a2v_data import audio as audio_module
from a2v_data.audio import AudioError, as_reason, read_blocks, read_info
from a2v_data.layouts import MOST_CHUNKS, chunks, read_layout
from a2v_data.mp3_frames import MOST_TRIED, walk

sys.path.insert(0, str(Path(__file__).parents[1] / "fuzz"))
from fuzz_audio import FORMATS, _chunk, _rate, _ready
from fuzz_mutate import damage_bytes

RATE = 8000
FMT = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
WAVE = b"RIFF\xff\xff\xff\x7fWAVE"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    _ready(folder)
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_no_bytes_raise_anything_but_audio_errors(whole: Path, tmp_path: Path, name: str) -> None:
    ending = FORMATS[name][0]
    path = tmp_path / f"m.{ending}"
    data = (whole / f"whole-{name}.{ending}").read_bytes()
    path.write_bytes(data)
    info = read_info(path)
    assert info.rate in (RATE, 48000) and len(np.concatenate(list(read_blocks(path, info)))) == info.samples
    rng, refused = Random(name), 0
    for number in range(60):
        _, content = (damage_bytes, _chunk, _rate)[number % 3](rng, data)
        path.write_bytes(content)
        try:
            info = read_info(path)
            assert sum(map(len, read_blocks(path, info))) == info.samples
        except AudioError as error:
            refused += 1
            assert "\n" not in str(error) and len(str(error)) < 600
    assert refused >= 5


@pytest.mark.parametrize(
    "fault",
    [
        struct.error("unpack"),
        OverflowError("seek"),
        MemoryError(),
        KeyError("x"),
        AssertionError(),
        OSError(5, "Input"),
    ],
)
def test_what_no_reader_was_written_for_is_the_recordings_reason(fault: Exception, tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.zeros(RATE), RATE)
    info = read_info(path)

    def fail(path: Path) -> None:
        raise fault

    monkeypatch.setattr(audio_module, "length_found", fail)
    with pytest.raises(AudioError, match=r"is not readable as audio \(.+\); replace it"):
        read_info(path)
    with pytest.raises(AudioError, match=r"is damaged \(.+\); replace it"):
        list(read_blocks(path, info))


def test_a_name_that_is_not_utf8_and_a_reason_that_was_given() -> None:
    with pytest.raises(AudioError, match=r"^has a name that is not UTF-8; rename it$"), as_reason(Path("x"), "x", "y"):
        "\udcff".encode()
    with pytest.raises(AudioError, match=r"^is empty$"), as_reason(Path("x"), "x", "y"):
        raise AudioError("is empty")


RATES = {1: False, 99: False, 100: True, 10_000_000: True, 10_000_001: False, 2_000_000_000: False}  # Hz: taken


@pytest.mark.parametrize("rate", RATES)
def test_a_rate_that_nothing_was_recorded_at(rate: int, tmp_path: Path) -> None:
    """A second of 8 kHz that says 1 Hz would be two hours, and a filter for 2 GHz would take 32 million weights."""
    path = tmp_path / "a.wav"
    path.write_bytes(
        WAVE + FMT.replace(struct.pack("<I", RATE), struct.pack("<I", rate)) + b"data\x80\x3e\0\0" + bytes(16000)
    )
    if RATES[rate]:
        assert (read_info(path).rate, read_info(path).samples) == (rate, 8000)
    else:
        with pytest.raises(AudioError, match=r"^has a sample rate of [0-9]+ Hz; 100 to 10000000 Hz are read"):
            read_info(path)


def test_more_samples_than_a_file_can_hold(tmp_path: Path) -> None:
    """A FLAC whose header promises 2^35 samples, and whose frames are gone: 8192 a byte at most."""
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, RATE), RATE)
    content = bytearray(path.read_bytes())
    content[21] = content[21] & 0xF0 | 8
    path.write_bytes(content[:4000])
    with pytest.raises(AudioError, match=r"^promises 34359746368 samples, more than its 4000 bytes can hold"):
        read_info(path)


def test_samples_that_are_too_large_to_be_squared(tmp_path: Path) -> None:
    path, sound = tmp_path / "a.wav", np.zeros(RATE)
    for value, said in ((1e30, r"a sample of 1e\+30"), (-1e13, r"a sample of -1e\+13"), (np.nan, "NaN or infinity")):
        sound[2000] = value
        soundfile.write(path, sound, RATE, subtype="FLOAT")
        with pytest.raises(AudioError, match=rf"^holds {said}, first at 0\.250 s; export it again$"):
            list(read_blocks(path, read_info(path)))
    sound[2000] = 2.0**31
    soundfile.write(path, sound, RATE, subtype="FLOAT")
    assert max(block.max() for block in read_blocks(path, read_info(path))) == 2.0**31


class Counted:
    """A file of a head and then the same bytes again and again, without an end; counts how often it is read."""

    def __init__(self, head: bytes, again: bytes) -> None:
        self.head, self.again, self.at, self.reads = head, again, 0, 0

    def seek(self, at: int) -> None:
        self.at = at

    def read(self, count: int) -> bytes:
        self.reads += 1
        first = self.at - len(self.head)
        if first < 0:
            return (self.head[self.at :] + self.again * 20)[:count]
        return (self.again * 20)[first % len(self.again) :][:count]


@pytest.mark.parametrize(
    "head, again, most",
    [
        (WAVE, b"\0" * 8, 10),
        (WAVE + FMT, b"LIST\0\0\0\0", 10 + MOST_CHUNKS),
        (WAVE + FMT, b"LIST\1\0\0\0xx", 10 + 3 * MOST_CHUNKS),
        (b"FORM\x7f\xff\xff\xffAIFF", b"ANNO\0\0\0\0", 10 + MOST_CHUNKS),
        (b"caff\0\1\0\0", b"free" + bytes(8), 10 + MOST_CHUNKS),
        (b"riff" + bytes(20) + b"wave" + bytes(12), b"junk" + bytes(12) + struct.pack("<Q", 24), 10 + MOST_CHUNKS),
    ],
)
def test_a_walk_through_chunks_of_nothing_ends(head: bytes, again: bytes, most: int) -> None:
    file = Counted(head, again)
    assert read_layout(file) is None  # type: ignore[arg-type]
    assert file.reads <= most


@pytest.mark.parametrize("rate", [float("nan"), float("inf"), 1e300])
def test_a_rate_that_is_no_number(tmp_path: Path, rate: float) -> None:
    path = tmp_path / "a.caf"
    soundfile.write(path, np.zeros(RATE), RATE, format="CAF")
    content = path.read_bytes()
    assert content[20:28] == struct.pack(">d", RATE)
    path.write_bytes(content[:20] + struct.pack(">d", rate) + content[28:])
    with pytest.raises(AudioError):
        read_info(path)


def test_lengths_that_add_up_to_more_than_a_file_can_be_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "a.w64"
    soundfile.write(path, np.zeros(RATE), RATE, format="W64")
    content = path.read_bytes()
    for length in ((1 << 62) - 1, (1 << 63) - 1, (1 << 64) - 1):
        path.write_bytes(content[:56] + struct.pack("<Q", length) + content[64:])  # of `fmt `
        with pytest.raises(AudioError):
            read_info(path)
    with (tmp_path / "a.caf").open("wb") as file:
        file.write(b"caff\0\1\0\0" + (b"free" + struct.pack(">Q", (1 << 61))) * 9)
    with pytest.raises(AudioError, match="is not readable as audio"):
        read_info(tmp_path / "a.caf")


@pytest.mark.parametrize("junk", [b"\xff", b"\xff\xfb\x90\x64", b"ID3\4\0\0\0\0\0\0", b"APETAGEX" + bytes(24)])
def test_a_walk_through_what_looks_like_frames_or_tags_ends(tmp_path: Path, junk: bytes) -> None:
    found = walk(junk * (4 * MOST_TRIED // len(junk) + 1) * 4)
    assert found.frames == 0 and found.tried <= 2 * MOST_TRIED
    path = tmp_path / "a.mp3"
    path.write_bytes(junk * (1_000_000 // len(junk)))
    with pytest.raises(AudioError, match=r"is no MP3, or much of it is no sound|is not readable as audio"):
        read_info(path)


def test_chunks_between_and_behind_are_still_found() -> None:
    content = b"LIST\3\0\0\0abc" + b"data\4\0\0\0abcd" + b"cue \0\0\0\0"  # without a byte to pad the first
    file = Counted(content, b"\0" * 8)
    assert [(name, length) for name, _, length in chunks(file, "<", 0)] == [(b"LIST", 3), (b"data", 4), (b"cue ", 0)]  # type: ignore[arg-type]
