"""Time, storage and memory from a thousand hours of sound to ten million: the tables of docs/scale.md.

    python infra/scale/model.py

It multiplies the unit costs of that page, which are measured by the commands named there; nothing here is. Cores are of
the processor of that page, `CORES` a node, all of them busy; networks, file systems and queues cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

HOURS = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
NODES = (1, 10, 100, 1_000)
CORES = 16  # of a node
RECORDING_H = 1.0  # length of a recording
LABELLED_H, PASSES = 20, 20  # what is labelled does not grow with the sound; how often it is heard
CALLS_PER_H = 60

# CPU-seconds an hour of sound
PACK, DIGEST = 3.7, 0.145  # the second in one process
PRETRAIN, FINETUNE = 511, 209  # `base` in float32, with 12 clones of a segment, and with labels
PREDICT, EVALUATE = 12.7, 0.14  # `tiny` in float32; the second without the model, in one process

# of the one process that plans, waits, and writes tables
PIECES_PER_H = 48  # of about 80 s; an eighth on a GPU
TASK_MS, RECORDING_MS = 2.2, 1.8  # CPU-ms of a piece on Ray, and of a recording from plan to tables
RECORDING_KB, STATE_KB, CORPUS_KB, SEGMENT_KB = 6.0, 0.75, 0.05, 4.3  # the last: of an hour in segments of 10 s
STORE_MB, EVENT_B = 57.6, 60  # 8 kHz, 16 bit; a row of events.csv


def time_text(seconds: float) -> str:
    """In the unit that a person would choose."""
    for unit, size in (("years", 365 * 86_400), ("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= (2 * size if unit == "years" else size):
            return f"{seconds / size:.2g} {unit}" if seconds < 100 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds:.2g} s"


def size_text(megabytes: float) -> str:
    """In the unit that a person would choose."""
    for unit, size in (("PB", 1e9), ("TB", 1e6), ("GB", 1e3)):
        if megabytes >= size:
            return f"{megabytes / size:.3g} {unit}"
    return f"{megabytes:.3g} MB"


def driver_s(hours: float) -> float:
    """CPU-seconds of `predict --ray`'s driver."""
    return hours * (PIECES_PER_H * TASK_MS + RECORDING_MS / RECORDING_H) / 1000


def times(hours: float, nodes: int) -> list[str]:
    """Pack, one pass of pretraining, finetuning, prediction, and what its driver bounds."""
    cores = CORES * nodes
    predict_s = hours * PREDICT / cores
    bound = " (driver)" if driver_s(hours) > predict_s else ""
    pack_s = hours * (PACK / CORES + DIGEST) if nodes == 1 else None  # one machine packs
    return [
        "" if pack_s is None else time_text(pack_s),
        time_text(hours * PRETRAIN / cores),
        time_text(LABELLED_H * PASSES * FINETUNE / cores),
        time_text(max(predict_s, driver_s(hours))) + bound,
    ]


def sizes(hours: float) -> list[str]:
    """Of files and of memory."""
    recordings = hours / RECORDING_H
    return [
        size_text(hours * STORE_MB),
        size_text(recordings * CORPUS_KB / 1e3),
        size_text(hours * SEGMENT_KB / 1e3),
        size_text(recordings * STATE_KB / 1e3),
        size_text(hours * CALLS_PER_H * EVENT_B / 1e6),
        size_text(recordings * RECORDING_KB / 1e3),
        time_text(driver_s(hours)),
    ]


def table(header: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """Markdown."""
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def main() -> None:
    header = ["hours", "nodes", "pack", "pretrain, one pass", "finetune", "predict"]
    print(table(header, ([f"{h:,}", f"{n:,}", *times(h, n)] for h in HOURS for n in NODES)))
    header = [
        "hours", "store", "corpus.json", "segments in memory", "state.jsonl", "events.csv", "driver's memory",
        "driver's CPU time",
    ]  # fmt: skip
    print("\n" + table(header, ([f"{h:,}", *sizes(h)] for h in HOURS)))


if __name__ == "__main__":
    main()
