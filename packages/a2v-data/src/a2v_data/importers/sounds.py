"""Whether two recordings are the same sound, whatever their files' headers say."""

from hashlib import sha256
from pathlib import Path

import soundfile

from a2v_data.audio import AudioInfo, as_reason, read_info

BLOCK_SAMPLES = 1 << 20
Shape = tuple[int, int, int]


def shape(info: AudioInfo) -> Shape:
    """What the same sound has in common before any sample is read: rate, samples, channels."""
    return info.rate, info.samples, info.channels


def sound_digest(path: Path) -> bytes:
    """SHA-256 of all samples (float32) and their rate. Raises `AudioError` for what is not whole."""
    digest = sha256(repr(shape(read_info(path))).encode())
    with as_reason(path, "is damaged", "download it again"), soundfile.SoundFile(path) as file:
        for block_NC in file.blocks(BLOCK_SAMPLES, dtype="float32", always_2d=True):
            digest.update(block_NC.tobytes())
    return digest.digest()
