"""Checkpoint files made by hand: right ones, wrong ones and hostile ones."""

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from a2v_model.original_checkpoint import import_checkpoint
from model_goldens import GOLDENS

PRETRAINED = GOLDENS / "tiny_fairseq_ckpt_pretrain.pt"
FINETUNED = GOLDENS / "tiny_fairseq_ckpt_finetuned.pt"
EMPTY = b"\x80\x02}."


def write_archive(
    path: Path, pickled: bytes = EMPTY, records: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED
) -> Path:
    """A zip file as torch.save lays it out; `records` are named below its folder ('data/0')."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        for name, content in ({"version": b"3\n"} | (records or {})).items():
            archive.writestr(f"archive/{name}", content)
    return path


def edited(source: Path, path: Path, edit: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of a golden checkpoint (one with a plain dict) after `edit` of its content."""
    contents = torch.load(source, weights_only=True)
    edit(contents)
    torch.save(contents, path)
    return path


def text(value: str) -> bytes:
    """The pickle instruction that puts a text on the stack."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def named(name: str) -> bytes:
    """The pickle instruction that puts a class or function on the stack."""
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def refused(path: Path, needle: str) -> None:
    """Importing `path` fails with one short line that names the file and matches `needle`."""
    with pytest.raises(ValueError, match=needle) as error:
        import_checkpoint(path)
    message = str(error.value)
    assert "\n" not in message and message.startswith(f"{path}: ") and len(message) < len(str(path)) + 300
