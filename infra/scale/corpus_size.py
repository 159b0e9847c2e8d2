"""What a packed corpus of many recordings costs those that open it, whatever they hold.

    python infra/scale/corpus_size.py --recordings 100000

Recordings are as long as `--hours` says in its description only. Prints CPU-seconds, memory and sizes as JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from a2v_data.corpus import Corpus
from a2v_data.corpus_files import AUDIO, EVENT_DTYPE, META, CorpusWriter, Recording
from a2v_data.storage import file_digest

RATE = 8000
DIGESTED = 1 << 28  # bytes


def measure(recordings: int, hours: float, folder: Path) -> dict[str, Any]:
    """Of a corpus of a sample each, which is then looked at as if it were as long as it says."""
    writer = CorpusWriter(folder, RATE, [f"class{number}" for number in range(12)])
    with writer.audio_path.open("r+b") as file:
        file.truncate(2 * recordings)
    writer.adopt(
        [
            Recording(f"site{number // 1000:04d}/{number:07d}.wav", 1, False, number, RATE, 1, 1.0)
            for number in range(recordings)
        ]
    )
    writer.finish(np.empty(0, EVENT_DTYPE))
    memory, begun = _resident_mib(), time.process_time()
    corpus = Corpus.open(folder)
    opened = {"open_cpu_s": time.process_time() - begun, "open_mib": _resident_mib() - memory}
    samples = round(3600 * hours * RATE)
    corpus.recordings[:] = [replace(one, n_samples=samples) for one in corpus.recordings]
    memory, begun = _resident_mib(), time.process_time()
    segments = corpus.segments(10.0)
    listed = {"segments": len(segments), "segments_cpu_s": time.process_time() - begun}
    with (folder / AUDIO).open("r+b") as file:
        file.truncate(DIGESTED)
    begun = time.process_time()
    file_digest(folder / AUDIO)
    return {
        "recordings": recordings,
        "hours": recordings * hours,
        **opened,
        **listed,
        "segments_mib": segments.nbytes / 2**20,
        "corpus_json_mib": (folder / META).stat().st_size / 2**20,
        "digest_gb_per_cpu_s": DIGESTED / 1e9 / (time.process_time() - begun),
    }


def _resident_mib() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20


def main(given: Sequence[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recordings", type=int, default=100_000)
    parser.add_argument("--hours", type=float, default=1.0, help="of each recording")
    arguments = parser.parse_args(given)
    with tempfile.TemporaryDirectory(prefix="a2v-scale-") as folder:
        return measure(arguments.recordings, arguments.hours, Path(folder))


if __name__ == "__main__":
    print(json.dumps({key: round(value, 3) for key, value in main().items()}, indent=1))
