"""Headers that lie about a recording's length: all sound is heard, or the recording is left out with a way out."""

import io
import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
from a2v_data.audio import AUDIO_SUFFIXES, AudioError, read_blocks, read_info
from a2v_data.headers import header_length
from a2v_data.mp3_frames import frame_head
from a2v_data.plan import RecordingConfig, make_plan
from a2v_data.sources import open_source

RATE = 8000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 6 * RATE)
PCM = np.rint(NOISE * 32767).astype("<i2").tobytes()  # 96000 bytes
LIST = b"LIST" + struct.pack("<I", 26) + b"INFOIART" + struct.pack("<I", 14) + b"hello world 12"


def heard(path: Path) -> np.ndarray:
    return np.concatenate(list(read_blocks(path, read_info(path))))


def encoded(form: str, subtype: str, sound: np.ndarray, rate: int = RATE, **options: object) -> bytes:
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", rate, 1, format=form, subtype=subtype, **options) as file:
        file.write(sound)
    return out.getvalue()


def wav(promised: int, sound: bytes, before: bytes = b"", magic: bytes = b"RIFF", bits: int = 16) -> bytes:
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, RATE, RATE * bits // 8, bits // 8, bits)
    return magic + struct.pack("<I", 36) + b"WAVE" + before + fmt + b"data" + struct.pack("<I", promised) + sound


def mp3(seconds: float, silent_from: float = 9.0, rate: int = 22050, mode: str = "VARIABLE") -> bytes:
    sound = 0.3 * np.random.default_rng(1).standard_normal(round(seconds * rate)).clip(-3, 3)
    sound[round(silent_from * rate) :] = 0
    return encoded("MP3", "MPEG_LAYER_III", sound, rate, bitrate_mode=mode, compression_level=0.5)


def without_index(content: bytes) -> bytes:
    head = frame_head(content[:4])
    assert head is not None
    return content[head[0] :]


def put(content: bytes, place: int, value: bytes) -> bytes:
    return content[:place] + value + content[place + len(value) :]


def test_an_mp3_without_an_index_is_heard_to_its_end(tmp_path: Path) -> None:
    """libsndfile takes its first frame's bit rate for that of all: 1.3 of 8 s, or 15.5."""
    path = tmp_path / "a.mp3"
    for silent_from in (2, 9):
        whole = mp3(8, silent_from)
        path.write_bytes(without_index(whole))
        info = read_info(path)
        # 8 s and what the encoder adds: at most three frames of 576 samples
        assert 8 * 22050 <= info.samples <= 8 * 22050 + 3 * 576 and len(heard(path)) == info.samples
        plain, _ = soundfile.read(path, dtype="float32")  # what libsndfile hears of it is at the same times
        count = min(len(plain), info.samples)
        assert np.abs(heard(path)[:count] - plain[:count]).max() < 1e-6
        if silent_from == 2:
            assert info.notice.startswith("promises 1.") and "8.07 s were counted and are read" in info.notice
            assert np.abs(heard(path)[info.samples // 2 :]).max() < 1e-3


def test_mp3s_that_were_joined(tmp_path: Path) -> None:
    """With tags between them, whose picture looks like frames; another rate cannot be read as one recording."""
    first, second, path = mp3(3), mp3(2), tmp_path / "a.mp3"
    picture = (b"\xff\xf3\x90\x00" + bytes(413)) * 5
    tag = b"ID3\x03\0\0" + bytes([0, 0, len(picture) >> 7, len(picture) & 127]) + picture
    path.write_bytes(tag + first + b"TAG" + bytes(125) + tag + second + b"TAG" + bytes(125))
    assert heard(path).size / 22050 == pytest.approx(5, abs=0.15)
    alone = tmp_path / "b.mp3"
    alone.write_bytes(first)
    assert read_info(alone).samples == 3 * 22050 and not read_info(alone).notice
    assert np.abs(heard(path)[: 3 * 22050 - 1000] - heard(alone)[:-1000]).max() < 1e-6
    path.write_bytes(first + mp3(2, rate=44100))
    with pytest.raises(AudioError, match=r"changes from 22050 Hz, 1 channel to 44100 Hz.*after 3\.\d s.*ffmpeg"):
        read_info(path)


def test_an_index_that_lies_and_one_that_tells_of_a_cut(tmp_path: Path) -> None:
    whole, path = mp3(4), tmp_path / "a.mp3"
    place = max(whole.find(b"Xing"), whole.find(b"Info")) + 8
    frames = struct.unpack(">I", whole[place : place + 4])[0]
    for count in (0, frames // 2, 2 * frames):
        path.write_bytes(put(whole, place, struct.pack(">I", count)))
        assert len(heard(path)) == 4 * 22050 and "4.00 s were counted" in read_info(path).notice
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match=r"is truncated: .* of 4\.\d s are there; .*ffmpeg -i IN OUT\.wav"):
        read_info(path)
    half = len(whole) // 2
    path.write_bytes(whole[:half] + bytes(5000) + whole[half:])  # a hole, after which libsndfile gives up
    assert len(heard(path)) == 4 * 22050 and "5000 bytes between its frames" in read_info(path).notice


WRONG = r"has a wrong header: it promises {} bytes of samples.*, {} more follow \(.*\); repair its header \(.*{}"


@pytest.mark.parametrize(
    ("content", "promised", "more"),
    [
        (wav(32000, PCM[:32000] + bytes(8) + PCM[32008:]), 32000, 64000),  # zeros right behind the promised end
        (wav(44, bytes(160) + PCM[160:]), 44, 95956),
        (wav(0, bytes(96000)), 0, 96000),  # all of it silent
        (wav(32000, PCM[:32000] + LIST + PCM[32000:64000]), 32000, 32034),  # behind metadata
        (wav(96000, PCM + wav(96000, PCM)), 96000, 96044),  # two files
        (wav(32000, PCM[:32000] + b"data" + struct.pack("<I", 32000) + PCM[:32000]), 32000, 32008),
        (wav(96000, PCM + bytes(8192)), 96000, 8192),  # too many zeros for padding
        (wav(0xFFFFFFFF, PCM, b"ds64" + struct.pack("<IQQQI", 28, 0, 32000, 16000, 0), b"RF64"), 32000, 64000),
        (wav(0, PCM, b"ds64" + struct.pack("<IQQQI", 28, 0, 0, 0, 0), b"RF64"), 0, 96000),
    ],
)
def test_a_header_that_promises_less_than_there_is(tmp_path: Path, content: bytes, promised: int, more: int) -> None:
    (tmp_path / "a.wav").write_bytes(content)
    with pytest.raises(AudioError, match=WRONG.format(promised, more, "sox --ignore-length IN OUT")):
        read_info(tmp_path / "a.wav")


def test_a_length_that_went_round_at_4_gb(tmp_path: Path) -> None:
    """Sparse: 74 h of which 4 s are promised; and one that promises nothing, which libsndfile reads to 4 GiB only."""
    path, total = tmp_path / "a.wav", (1 << 32) + 64000
    for promised in (64000, 0xFFFFFFFF):
        path.write_bytes(wav(promised, PCM[:56000]))
        os.truncate(path, 44 + total)
        if promised == 64000:
            way = r"ffmpeg -f s16le -ar 8000 -ac 1 -skip_initial_bytes 44 -i IN -c copy -rf64 auto OUT\.wav"
            with pytest.raises(AudioError, match=WRONG.format(64000, 1 << 32, way)):
                read_info(path)
        else:
            assert read_info(path).samples == total // 2
            last = next(read_blocks(path, read_info(path), start=total // 2 - 5))
            assert len(last) == 5 and not last.any()


@pytest.mark.parametrize(
    ("content", "notice"),
    [
        (wav(96044, PCM), "promises 96044 bytes of samples, 96000 are there"),  # Frontier Labs: the whole file's size
        (wav(96000, PCM + b"uploaded by station 7\r\n"), "23 bytes behind them are not"),
        (wav(96000, PCM + bytes(2000)), "2000 bytes behind them are not"),
        (wav(96000, PCM + LIST), ""),
        (wav(0xFFFFFFFF, PCM), ""),
        (wav(0x7FFFF000, PCM), "does not say how long it is"),  # sox into a pipe
        (wav(0xFFFFFFFF, PCM, b"ds64" + struct.pack("<IQQQI", 28, 0, 0, 0, 0), b"RF64"), "does not say how long"),
        (wav(0xFFFFFFFF, PCM, b"", b"RF64"), "does not say how long"),
        (wav(0xFFFFFFFF, PCM, b"ds64" + struct.pack("<IQQQI", 28, 0, 96000, 48000, 0), b"BW64"), ""),
        (wav(96000, PCM, b"bext" + struct.pack("<I", 603) + bytes(603)), ""),  # odd, and not padded
    ],
)
def test_what_is_odd_is_read_to_its_end(tmp_path: Path, content: bytes, notice: str) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert np.array_equal(heard(path), np.frombuffer(PCM, "<i2").astype("float32") / 32768)
    assert notice in read_info(path).notice and bool(notice) == bool(read_info(path).notice)


def test_an_odd_number_of_bytes_that_is_not_padded(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    for pad, notice in ((b"\0", ""), (b"", "34 bytes of metadata follow its samples without a byte to pad them")):
        path.write_bytes(wav(71997, PCM[:71997] + pad + LIST, bits=24))
        assert len(heard(path)) == 23999 and read_info(path).notice[: len(notice) or None] == notice


def test_other_containers(tmp_path: Path) -> None:
    """Where the promised length lies in each, and what libsndfile is shown of it."""
    raw = "ffmpeg -f {} -ar 8000 -ac 1 -skip_initial_bytes {} -i IN"
    places = {  # bytes before and behind the number, its form, what it counts besides the samples, the way out
        "AIFF": (b"SSND", 4, ">I", 8, "sox --ignore-length"),
        "W64": (b"data\xf3", 16, "<Q", 24, raw.format("s16le", 104)),
        "AU": (b".snd", 8, ">I", 0, "sox --ignore-length"),
        "CAF": (b"data", 4, ">Q", 4, raw.format("s16be", 4096)),
    }
    for form, (mark, behind, number, besides, way) in places.items():
        content, path = encoded(form, "PCM_16", NOISE), tmp_path / f"a.{form.lower()}"
        place = content.find(mark) + behind
        path.write_bytes(content)
        whole = heard(path)
        assert len(whole) == len(NOISE) and not read_info(path).notice
        for promised, said in ((32000, "has a wrong header: it promises 32000 bytes"), (960000, "is truncated")):
            path.write_bytes(put(content, place, struct.pack(number, promised + besides)))
            with pytest.raises(AudioError, match=said) as caught:
                read_info(path)
            assert way in str(caught.value)
        path.write_bytes(put(content, place, struct.pack(number, 96000 + besides + 20)))
        assert np.array_equal(heard(path), whole) and "96000 are there" in read_info(path).notice


def test_a_cut_file_is_told_from_one_that_is_being_copied(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(wav(192000, PCM))
    said = header_length(path).problem
    assert said is not None and "wait for its end" in said and "(6.0 s of 12.0 s)" in said
    os.utime(path, (0, 0))
    said = header_length(path).problem
    assert said is not None and said.endswith("or keep what is there: sox --ignore-length IN OUT")


def flac_saying(content: bytes, samples: int) -> bytes:
    return put(content, 21, bytes([content[21] & 0xF0 | samples >> 32]) + struct.pack(">I", samples & 0xFFFFFFFF))


def test_a_flac_whose_header_has_another_length(tmp_path: Path) -> None:
    """Twice (Frontier Labs), a half, none (a pipe); also where it ends with silence, whose frames are tiny."""
    path = tmp_path / "a.flac"
    for sound in (NOISE, np.concatenate([NOISE, np.zeros(RATE)])):
        content = encoded("FLAC", "PCM_24", sound)
        path.write_bytes(content)
        whole = heard(path)
        for samples in (2 * len(sound), len(sound) // 2, 0):
            for tail in (b"", b"TAG" + bytes(125)):
                path.write_bytes(flac_saying(content, samples) + tail)
                assert np.array_equal(heard(path), whole)
                assert f"{len(sound)} (" in read_info(path).notice
    path.write_bytes(flac_saying(content, 0)[:60_000])
    with pytest.raises(AudioError, match=r"does not say how long it is .*ffmpeg"):
        read_info(path)


def test_flacs_and_oggs_that_were_joined(tmp_path: Path) -> None:
    """The same twice: of a FLAC nothing but a look at the whole file shows it, so it is seen when it was read."""
    content, path = encoded("FLAC", "PCM_16", NOISE), tmp_path / "a.flac"
    path.write_bytes(content + content)
    with pytest.raises(AudioError, match=rf"several FLACs.*head -c {len(content)} IN > FIRST.flac"):
        heard(path)
    for subtype in ("VORBIS", "OPUS"):
        content, path = encoded("OGG", subtype, NOISE), tmp_path / f"{subtype}.ogg"
        path.write_bytes(content)
        assert len(heard(path)) == len(NOISE) and not read_info(path).notice
        path.write_bytes(content + content)
        with pytest.raises(AudioError, match=r"holds 2 recordings one behind the other.*ffmpeg -i IN OUT\.wav"):
            read_info(path)


def test_sound_that_is_not_read_is_named_with_the_way_out(tmp_path: Path) -> None:
    """Its table is its own, though it cannot be heard; what was converted already counts once."""
    for name in ("a.wav", "b.wave", "done.wav"):
        soundfile.write(tmp_path / name, NOISE, RATE, format="WAV")
    for name in ("phone.m4a", "Logger 1.WAC", "done.mp4", "not.txt"):
        (tmp_path / name).write_bytes(bytes(64))
    for name in ("a", "b", "phone", "done"):
        (tmp_path / f"{name}.txt").write_text("1.0\t1.5\tcc\n")
    source = open_source(tmp_path)
    assert source.names == ("Logger 1.WAC", "a.wav", "b.wave", "done.wav", "phone.m4a")
    assert source.left_out() == [
        ("Logger 1.WAC", "is not read (wac); convert it to WAV with Wildlife Acoustics' Kaleidoscope, or wac2wav"),
        ("phone.m4a", "is not read (m4a); convert it: ffmpeg -i phone.m4a phone.wav"),
    ]
    plan = make_plan(source, RecordingConfig(sample_rate=RATE))
    assert set(plan.recordings) == {"a.wav", "b.wave", "done.wav"}
    assert "ffmpeg -i phone.m4a phone.wav (left out, with its 1 annotations)" in plan.left_out["phone.m4a"]
    (tmp_path / "a.wav").write_bytes(wav(96044, PCM))
    assert any(
        line.startswith("a.wav: promises 96044") for line in make_plan(tmp_path, RecordingConfig()).annotations.notices
    )


def test_every_ending_that_is_read_can_be_read(tmp_path: Path) -> None:
    forms = {".rf64": "RF64", ".w64": "W64", ".flac": "FLAC", ".au": "AU", ".snd": "AU", ".caf": "CAF", ".voc": "VOC"}
    forms |= {".sph": "NIST"} | dict.fromkeys((".ogg", ".oga", ".opus"), "OGG")
    forms |= dict.fromkeys((".aiff", ".aif", ".aifc"), "AIFF") | dict.fromkeys((".mp3", ".mp2"), "MP3")
    for suffix in AUDIO_SUFFIXES:
        path = tmp_path / f"a{suffix}"
        soundfile.write(path, NOISE, RATE, format=forms.get(suffix, "WAV"))
        assert read_info(path).samples == len(NOISE) and len(heard(path)) == len(NOISE), suffix
