"""Checkpoints of few bytes that would fill the memory, overflow the stack or take for ever: refused with one line."""

import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import a2v_model.pickle_check as pickle_check
import a2v_model.pickle_values as values
import pytest
import torch
from model_archives import PRETRAINED, edited, named, refused, text, write_archive

pytestmark = pytest.mark.slow


def _listed(depth: int, made: bytes) -> bytes:
    """Lists (or tuples) in each other, each the one before twice: 2^depth values by a few bytes."""
    return b"".join(b"q" + bytes([i]) + made.replace(b"#", b"h" + bytes([i])) for i in range(depth))


def _many(name: str, argument: bytes, times: int, after: bytes = b"R") -> bytes:
    """Calls of `name` with the same value again and again."""
    call = b"h\x00h\x01" + after
    return named(name) + b"q\x00" + argument + b"q\x01](" + call * times + b"e"


def _ordered_many(state: bytes, times: int) -> bytes:
    call = b"h\x00)Rh\x01b"
    return named("collections.OrderedDict") + b"q\x00" + state + b"q\x01](" + call * times + b"e"


NUMBERS = b"".join(b"M" + struct.pack("<H", n) for n in range(20_000))
NUMBERED = b"".join(b"M" + struct.pack("<H", n) + b"N" for n in range(20_000))
DEEP = b")" + b"\x85" * 150_000
HUGE = b"\x8a\x05" + struct.pack("<Q", 1 << 34)[:5]
BOMBS: dict[str, tuple[bytes, str]] = {
    "a list in itself": (b"]q\x00h\x00a", "nested deeper than 100 levels"),
    "deep lists": (b"]" * 5000 + b"a" * 4999, "nested deeper than 100 levels"),
    "deep tuples": (DEEP, "nested deeper than 100 levels"),
    "a deep key": (b"}" + DEEP + b"Ns", "a tuple as a key"),
    "a deep name of a storage": (b"(" + text("storage") + DEEP + b"NNNtQ", "a reference that is not to"),
    "a deep value in a set": (named("__builtin__.set") + b"]" + DEEP + b"a\x85R", r"a call of __builtin__\.set"),
    "a key of 2^50 values": (b"})" + _listed(50, b"##\x86") + b"Ns", "a tuple as a key"),
    "2^50 values": (b"](]" + _listed(50, b"](##e") + b"e", "more than 50,000 values"),
    "2^50 values in a message": (b"]" + _listed(50, b"](##e") + b")R", "a call of a list"),
    "copies of a list": (_many("__builtin__.set", b"](" + NUMBERS + b"e", 20_000, b"\x85R"), "copied again and again"),
    "copies of a tuple": (_many("torch.Size", b"(" + NUMBERS + b"t", 20_000, b"\x85R"), "copied again and again"),
    "copies of arguments": (_many("argparse.Namespace", b"(" + NUMBERS + b"t", 20_000), "copied again and again"),
    "copies of new arguments": (
        _many("argparse.Namespace", b"(" + NUMBERS + b"t", 20_000, b"\x81"),
        "copied again and again",
    ),
    "copies of attributes": (_ordered_many(b"}(" + NUMBERED + b"u", 20_000), "copied again and again"),
    "copies of bytes": (
        _many("_codecs.encode", text("x" * 100_000) + text("latin1") + b"\x86", 20_000),
        "copied again and again",
    ),
    "an ordered dict of a list": (named("collections.OrderedDict") + b"]\x85R", "OrderedDict with something unusual"),
    "another codec": (named("_codecs.encode") + text("x") + text("utf-32") + b"\x86R", "encode with something"),
    "a huge bytearray": (named("__builtin__.bytearray") + HUGE + b"\x85R", "a call of __builtin__.bytearray"),
    "a huge tensor": (named("torch.FloatTensor") + HUGE + b"\x85R", "a call of torch.FloatTensor"),
    "a huge empty tensor": (
        named("torch._utils._rebuild_meta_tensor_no_storage") + b")R",
        "a call of torch._utils._rebuild_meta_tensor_no_storage",
    ),
    "bytes that are not there": (b"\x96\x00\x00\x00\x00\x01\x00\x00\x00", "damaged pickle"),  # 4 GB
    "a number that is not there": (b"\x8b\xff\xff\xff\x7f", "damaged pickle"),  # 2 GB
    "text that is not there": (b"X\xff\xff\xff\xff", "damaged pickle"),  # 4 GB
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_and_takes_no_memory(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "MAX_VALUES", 50_000)  # the test's own speed
    pickled, needle = BOMBS[name]
    path = write_archive(tmp_path / "bomb.pt", b"\x80\x02" + pickled + b".")
    assert path.stat().st_size < 1_100_000
    tracemalloc.start()
    try:
        refused(path, needle)
        assert tracemalloc.get_traced_memory()[1] < 100e6
    finally:
        tracemalloc.stop()


def test_the_number_of_instructions_values_and_classes_is_limited(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(pickle_check, "MAX_OPCODES", 1000)
    refused(write_archive(tmp_path / "a.pt", b"\x80\x02](" + b"]" * 2000 + b"e."), "more than 1,000 instructions")
    monkeypatch.setattr(values, "MAX_VALUES", 10)
    refused(write_archive(tmp_path / "b.pt", pickle.dumps(list(range(100)), 2)), "more than 10 values")
    monkeypatch.setattr(values, "MAX_NAMES", 2)
    classes = b"".join(named(f"fairseq.C{n}") for n in range(3))
    refused(write_archive(tmp_path / "c.pt", b"\x80\x02](" + classes + b"e."), "more than 2 classes")


def test_a_model_of_more_numbers_than_the_file_has_is_refused(tmp_path: Path) -> None:
    """Weights that are all views of one number: a megabyte that says it is a model of gigabytes."""

    def repeat(contents: dict[str, Any]) -> None:
        weights = contents["model"]
        for name, tensor in [item for item in weights.items() if item[0] != "_ema"]:
            weights[name] = torch.zeros(1).expand(tensor.shape)
        weights["_ema"] = {name: torch.zeros(1).expand(tensor.shape) for name, tensor in weights["_ema"].items()}

    refused(edited(PRETRAINED, tmp_path / "views.pt", repeat), r"its weights have [\d,]+ numbers but the file has only")
