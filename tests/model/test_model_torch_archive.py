"""Reading torch's zip files: the same tensors as torch reads, and every way in which a file can be wrong."""

import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import a2v_model.torch_archive as torch_archive
import pytest
import torch
from a2v_model.original_checkpoint import import_checkpoint
from a2v_model.torch_archive import opened
from model_archives import PRETRAINED, write_archive

TYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool,
]  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_every_kind_of_tensor_is_read_as_torch_reads_it(dtype: torch.dtype, seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    whole = torch.randn(6, 5, 4).mul(10).to(dtype)
    saved: dict[str, Any] = {
        "whole": whole,
        "view": whole[1:4, ::2, 1],
        "turned": whole.transpose(0, 2),
        "expanded": whole[:, :1, :1].expand(-1, 3, 2),
        "scalar": whole[0, 0, 0],
        "empty": whole[:0],
    }
    if dtype.is_floating_point:
        saved["parameter"] = torch.nn.Parameter(whole.clone())
    torch.save(saved, tmp_path / "saved.pt")
    with opened(tmp_path / "saved.pt") as contents:
        assert set(contents) == set(saved)
        for name, expected in saved.items():
            found = contents[name].read()
            assert found.dtype == dtype and torch.equal(found, expected.detach()), name


def test_plain_data_beside_tensors(tmp_path: Path) -> None:
    saved = {"size": torch.Size([2, 3]), "type": torch.float16, "device": torch.device("cuda", 1), "n": [1, (2.5, "x")]}
    torch.save(saved, tmp_path / "saved.pt")
    with opened(tmp_path / "saved.pt") as contents:
        assert contents == {"size": (2, 3), "type": "torch.float16", "device": "cuda:1", "n": [1, (2.5, "x")]}


def _one_line(path: Path, needle: str) -> None:
    with pytest.raises(ValueError, match=needle) as error:
        import_checkpoint(path)
    assert "\n" not in str(error.value) and str(error.value).startswith(f"{path}: ")


def test_what_is_no_file(tmp_path: Path) -> None:
    _one_line(tmp_path / "nowhere.pt", "no such file")
    _one_line(tmp_path, "not a file; expected a checkpoint")


@pytest.mark.parametrize(
    ("content", "needle"),
    [
        (b"", "empty; expected a checkpoint written by torch.save"),
        (b"RIFF1234WAVE", "not a torch checkpoint"),
        (b"\x80\x02}.", "not a torch checkpoint"),
        (b"PK", "damaged, not a complete torch checkpoint"),
        (b"PK\x05\x06" + b"\x00" * 18, "no data.pkl in it"),
    ],
)
def test_what_is_no_checkpoint(content: bytes, needle: str, tmp_path: Path) -> None:
    (tmp_path / "file.pt").write_bytes(content)
    _one_line(tmp_path / "file.pt", needle)


def test_the_format_before_torch_1_6_is_refused(tmp_path: Path) -> None:
    torch.save({"model": {}}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    _one_line(tmp_path / "old.pt", "format of torch before 1.6")


@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file(share: float, tmp_path: Path) -> None:
    content = PRETRAINED.read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: int(share * len(content))])
    _one_line(tmp_path / "cut.pt", "damaged, not a complete torch checkpoint")


def test_flipped_bits_in_a_weight_are_noticed(tmp_path: Path) -> None:
    content = bytearray(PRETRAINED.read_bytes())
    with zipfile.ZipFile(PRETRAINED) as archive:
        record = archive.getinfo("archive/data/1")
    content[record.header_offset + 200] ^= 0xFF
    (tmp_path / "flipped.pt").write_bytes(bytes(content))
    _one_line(tmp_path / "flipped.pt", "damaged.*(CRC|header)")


def test_archives_of_another_kind(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "text.pt", "w") as archive:
        archive.writestr("notes/readme.txt", "hello")
    _one_line(tmp_path / "text.pt", "no data.pkl in it")
    with zipfile.ZipFile(tmp_path / "two.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"N.")
        archive.writestr("b/data.pkl", b"N.")
    _one_line(tmp_path / "two.pt", "2 data.pkl in it, should be one")
    _one_line(write_archive(tmp_path / "big.pt", records={"byteorder": b"big"}), "not little-endian")
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "script.pt")
    _one_line(tmp_path / "script.pt", "refused: it holds .*__torch__")


@pytest.mark.parametrize(
    ("contents", "needle"),
    [
        ({"epoch": 1, "state_dict": {}}, "no weights in it.*keys here: epoch, state_dict"),
        ([1, 2], "no weights in it.*keys here: none"),
        ({"model": {}}, "no weights in it"),
        ({"model": {"a": torch.zeros(2)}}, "no configuration in it"),
        ({"model": {"a": torch.zeros(2)}, "cfg": {"task": {}}}, "the configuration has no section model"),
        ({"model": {"a": torch.zeros(2)}, "cfg": {"model": {"_name": "hubert"}}}, "hubert. is not animal2vec"),
        ({"model": {"a": torch.zeros(2)}, "cfg": {"model": {"w2v_args": None}}}, "w2v_args is empty"),
        ({"model": {"a": torch.zeros(2)}, "cfg": {"model": {"modalities": {"image": {}}}}}, "no modalities.audio"),
    ],
)  # fmt: skip
def test_what_is_not_a_checkpoint_of_animal2vec(contents: Any, needle: str, tmp_path: Path) -> None:
    torch.save(contents, tmp_path / "other.pt")
    _one_line(tmp_path / "other.pt", needle)


class Stored:
    """Pickles as torch pickles a tensor, with whatever numbers a hostile file claims."""

    def __init__(self, offset: Any, size: Any, stride: Any) -> None:
        self.parts = offset, size, stride

    def __reduce__(self) -> Any:
        return torch._utils._rebuild_tensor_v2, (Reference("0", 4), *self.parts, False, {})


class Reference:
    def __init__(self, key: Any, numel: Any) -> None:
        self.parts = ("storage", torch.FloatStorage, key, "cpu", numel)


class _Pickler(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return value.parts if isinstance(value, Reference) else None


def _pickled(value: Any, path: Path) -> bytes:
    with path.open("wb") as file:
        _Pickler(file, 2).dump(value)
    return path.read_bytes()


NUMBERS = struct.pack("<4f", 1.0, 2.0, 3.0, 4.0)


@pytest.mark.parametrize(
    ("tensor", "needle"),
    [
        (Stored(0, (5,), (1,)), "reaches element 4 of a storage of 4"),
        (Stored(1, (4,), (1,)), "reaches element 4 of a storage of 4"),
        (Stored(0, (2, 2), (3, 1)), "reaches element 4 of a storage of 4"),
        (Stored(0, (2,), (1 << 61,)), "reaches element"),
        (Stored(4, (1,), (1,)), "reaches element 4 of a storage of 4"),
        (Stored(-1, (2,), (1,)), "offset -1"),
        (Stored(3, (2,), (-1,)), "a shape or stride of"),
        (Stored(0, (-1,), (1,)), "a shape or stride of"),
        (Stored(0, (2,), (1, 1)), "a tensor of shape"),
        (Stored(0, (1,) * 17, (1,) * 17), "a tensor of shape"),
        (Stored(0, "ab", (1, 1)), "a shape or stride of"),
        (Stored(True, (1,), (1,)), "offset True"),
        (Stored(0, (1 << 63,), (0,)), "a shape or stride of"),
    ],
)
def test_a_tensor_that_reaches_outside_its_numbers_is_refused(tensor: Stored, needle: str, tmp_path: Path) -> None:
    pickled = _pickled({"model": {"a": tensor}}, tmp_path / "pickle")
    _one_line(write_archive(tmp_path / "evil.pt", pickled, {"data/0": NUMBERS}), f"refused: it holds .*{needle}")


@pytest.mark.parametrize(
    ("reference", "needle"),
    [
        (Reference("0", 5), "storage 0 of 5 numbers in 16 bytes"),
        (Reference("0", 1 << 40), "storage 0 of 1099511627776 numbers in 16 bytes"),
        (Reference("0", -1), "storage 0 of -1 numbers"),
        (Reference("1", 4), "storage 1, which is not in the file"),
        (Reference("../../etc/passwd", 4), r"a storage named \.\./\.\./etc/passwd"),
        (Reference("/etc/passwd", 4), "a storage named /etc/passwd"),
        (Reference("²", 4), "a storage named"),
        (Reference(0, 4), "a storage named 0"),
    ],
)
def test_a_storage_that_is_not_in_the_file_is_refused(reference: Reference, needle: str, tmp_path: Path) -> None:
    pickled = _pickled({"model": {"a": reference}}, tmp_path / "pickle")
    _one_line(write_archive(tmp_path / "evil.pt", pickled, {"data/0": NUMBERS}), f"refused: it holds .*{needle}")


def test_records_outside_the_folder_are_never_read(tmp_path: Path) -> None:
    """A name that points elsewhere is harmless: nothing is extracted, and only data/NUMBER is read."""
    path = write_archive(tmp_path / "evil.pt", _pickled({"model": {"a": Stored(0, (4,), (1,))}}, tmp_path / "pickle"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../outside", NUMBERS)
        archive.writestr("archive/../data/0", NUMBERS)
    _one_line(path, "storage 0, which is not in the file")
    assert sorted(os.listdir(tmp_path)) == ["evil.pt", "pickle"]


def test_compressed_records_are_refused(tmp_path: Path) -> None:
    """A megabyte of zeros can be a kilobyte of zip: torch.save never compresses."""
    path = write_archive(tmp_path / "bomb.pt", b"N" * (1 << 20), compression=zipfile.ZIP_DEFLATED)
    _one_line(path, "refused: it holds record archive/data.pkl, compressed")


def test_records_that_claim_more_than_the_file_holds_are_refused(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "bomb.pt", records={"data/0": NUMBERS})
    content = bytearray(path.read_bytes())
    entry = content.rindex(b"PK\x01\x02")
    content[entry + 20 : entry + 28] = struct.pack("<II", 1 << 31, 1 << 31)  # compressed and real size
    path.write_bytes(bytes(content))
    _one_line(path, r"refused: it holds records of 2,147,483,\d+ bytes in a file of \d+")


def test_encrypted_records_are_refused(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "secret.pt")
    content = bytearray(path.read_bytes())
    content[content.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(bytes(content))
    _one_line(path, "refused: it holds record archive/data.pkl, encrypted")


def test_a_huge_pickle_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_archive, "MAX_PICKLE_BYTES", 1000)
    _one_line(write_archive(tmp_path / "huge.pt", b"N" * 1001), "a data.pkl of 1,001 bytes, more than 1,000")
