"""Folders that a2v wrote and reads again: models, what `predict`, `prepare`, `review` and `search` left, corpora."""

import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

from fuzz_documents import damage_json, flow
from fuzz_models import predict, ready_model, ready_recording
from fuzz_mutate import damage_bytes, damage_text, damage_tree
from fuzz_run import Case, Family, run_case

KEPT = ("--likelihoods", "npz", "--format", "csv")
HUGE = (0, -1, 100_000, 10**9, 1 << 40, 1 << 63, 10**30, 1e9, 1e300, 0.1)


def _run(folder: Path, *argv: str) -> None:
    """Something that `ready` needs."""
    outcome = run_case(Case("", argv), folder)
    assert outcome.code == 0 and not outcome.fault, f"{argv}: {outcome}"


# --- models


def _sizes(rng: Random, tree: Any) -> tuple[str, Any]:
    """Numbers of the configuration that are far too large, or wrong."""
    done = []
    for _ in range(rng.choice((1, 1, 2))):
        part = tree[rng.choice(("model", "finetune"))]
        part = part[rng.choice(("front_end", "encoder"))] if "encoder" in part else part
        key = rng.choice(sorted(key for key in part if not isinstance(part[key], bool | str)))
        value: Any = rng.choice(HUGE)
        if key == "layers":
            value = rng.choice(([[value, 10, 5]], [[8, value, value]] * 3, [[8, 3, 2]] * 50_000, [[8, value, 1]]))
        part[key] = value
        done.append(f"{key} = {str(value)[:40]}")
    return ", ".join(done), tree


def header(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Of a safetensors file, and what follows."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def _weights(rng: Random, data: bytes) -> tuple[str, bytes]:
    if rng.random() < 0.5:
        return damage_bytes(rng, data)
    told, rest = header(data)
    name = rng.choice(sorted(told))
    change = rng.choice(("shape", "dtype", "offsets", "name", "tree"))
    if change == "shape":
        told[name]["shape"] = rng.choice(
            ([0], [], [1 << 40], [-1], [1 << 62, 4], told[name]["shape"][::-1], [[1]], "x")
        )
    elif change == "dtype":
        told[name]["dtype"] = rng.choice(("F64", "F16", "BF16", "I8", "U8", "BOOL", "F8_E4M3", "X", None))
    elif change == "offsets":
        told[name]["data_offsets"] = rng.choice(([0, 1 << 40], [1, 0], [0, 0], [-1, 5], [0], "x"))
    elif change == "name":
        told[rng.choice(("x", "head.weight", "\x1b[31m", "x" * 50_000))] = told.pop(name)
    else:
        change, told = damage_tree(rng, told)
    text = flow(told).encode()
    return f"header: {change} of {name}", len(text).to_bytes(8, "little") + text + rest


def _model(rng: Random, ready: Path, folder: Path) -> Case:
    model = folder / "model"
    shutil.copytree(ready / "model", model)
    if (kind := rng.choice(("json", "sizes", "weights"))) == "weights":
        what, data = _weights(rng, (model / "model.safetensors").read_bytes())
        (model / "model.safetensors").write_bytes(data)
    else:
        tree = json.loads((model / "model.json").read_text())
        if kind == "sizes":
            what, tree = _sizes(rng, tree)
            data = flow(tree).encode()
        else:
            what, data = damage_json(rng, tree)
        (model / "model.json").write_bytes(data)
    argv = rng.choice((("model", "info", "model"), ("model", "info", "model", "--json"), predict(ready, "model")))
    return Case(f"{argv[0]}, {kind}: {what}", argv)


# --- what a command goes on from


def _ready_state(folder: Path) -> None:
    ready_model(folder)
    _run(folder, *predict(folder, more=KEPT))
    source = folder / "source"
    source.mkdir()
    ready_recording(source / "a.wav")
    (source / "annotations.csv").write_text("file,onset_s,offset_s,label\na.wav,0.1,0.2,cc\na.wav,0.5,0.9,sn\n")
    _run(folder, *_prepare(folder))
    _run(folder, *_search(folder))
    events = (folder / "out" / "calls" / "events.csv").read_text().splitlines()
    assert len(events) > 2
    shutil.copytree(folder / "out" / "calls", folder / "out" / "reviewed")
    _review(folder / "out" / "reviewed")
    _run(folder, *_export("out/exported"))


def _prepare(ready: Path) -> tuple[str, ...]:
    return (
        "data", "prepare", str(ready / "source"), "--out", "out/prepared", "--segment-s", "0.25", "--processes", "1"
    )  # fmt: skip


def _search(ready: Path) -> tuple[str, ...]:
    return ("search", "a.wav@0.1-0.3", "--in", "out/calls", "--model", str(ready / "model"), "--processes", "1")


def _export(out: str) -> tuple[str, ...]:
    return ("review", "export", "out/reviewed", "--out", out)


def _review(calls: Path) -> None:
    """Decisions on the first events."""
    from a2v_experiments.review.calls import open_calls
    from a2v_experiments.review.journal import Decision, open_journal

    found = open_calls(calls)
    with open_journal(found.folder) as journal:
        for event, verdict in zip(found.events, ("right", "wrong", "unsure"), strict=False):
            span = (event.onset_s, event.offset_s)
            journal.decide(Decision(0, event.id, "event", verdict, event.file, event.label, *span, (0.0, 1.0), True))


def _state(rng: Random, ready: Path, folder: Path) -> Case:
    commands = {
        "calls": predict(ready, more=KEPT), "prepared": _prepare(ready), "search": _search(ready),
        "reviewed": _export("out/again"), "report": ("review", "report", "out/reviewed", "--no-track"),
        "with": (*_export("out/again"), "--with", "out/exported"),
        "evaluate": ("evaluate", "out/calls", str(ready / "source")),
    }  # fmt: skip
    name = rng.choice(sorted(commands))
    place = {"search": "calls", "report": "reviewed", "with": "exported", "evaluate": "calls"}.get(name, name)
    shutil.copytree(ready / "out", folder / "out", symlinks=True)
    what = damage_file(rng, folder / "out" / place)
    return Case(f"{name}: {what}", commands[name])


def damage_file(rng: Random, folder: Path) -> str:
    """Damage one file of a folder, by what it is; returns what was done."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink()]
    state = [path for path in files if path.suffix in (".json", ".jsonl", ".csv", ".npy")]
    path = rng.choice(state if rng.random() < 0.85 else files)
    data = path.read_bytes()
    if path.suffix == ".json":
        what, data = damage_json(rng, json.loads(data))
    elif path.suffix == ".jsonl" and rng.random() < 0.8:
        lines = [json.loads(line) for line in data.decode().splitlines()]
        at = rng.randrange(len(lines))
        what, lines[at] = damage_tree(rng, lines[at])
        data = "".join(f"{flow(line)}\n" for line in lines).replace(": .inf", ": Infinity").encode("utf-8", "replace")
    elif path.suffix in (".jsonl", ".csv", ".tsv", ".txt"):
        what, data = damage_text(rng, data.decode(), "," if path.suffix == ".csv" else "\t")
    elif rng.random() < 0.1:
        what = "missing"
        path.unlink()
        return f"{path.name}: {what}"
    else:
        what, data = damage_bytes(rng, data)
    path.write_bytes(data)
    return f"{path.relative_to(folder)}: {what}"


# --- corpora


def _ready_corpus(folder: Path) -> None:
    source = folder / "source"
    source.mkdir()
    for name in ("a.wav", "b.wav"):
        ready_recording(source / name)
    (source / "annotations.csv").write_text(
        "file,onset_s,offset_s,label\na.wav,0.1,0.2,cc\na.wav,0.3,0.4,?\nb.wav,0.5,0.9,sn\n"
    )
    _run(folder, *_prepare(folder))
    _run(folder, "data", "pack", "source", "--out", "out/packed", "--processes", "1")


def _corpus(rng: Random, ready: Path, folder: Path) -> Case:
    commands = {
        "packed": (
            ("data", "stats"), ("data", "verify"), ("data", "folds", "--out", "out/f", "--folds", "2"),
            ("data", "preview", "--recording", "a.wav", "--out", "out/x.png"),
        ),
        "prepared": (
            ("data", "stats"), ("data", "check", "--jobs", "1"),
            ("data", "pack", "--out", "out/p", "--processes", "1"),
        ),
    }  # fmt: skip
    name = rng.choice(sorted(commands))
    shutil.copytree(ready / "out" / name, folder / "corpus")
    what = damage_file(rng, folder / "corpus")
    command, *more = rng.choice(commands[name])[1:]
    return Case(f"{name}, {command}: {what}", ("data", command, "corpus", *more))


MODEL = Family("model", _model, ready_model)
STATE = Family("state", _state, _ready_state)
CORPUS = Family("corpus", _corpus, _ready_corpus)
