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
from a2v_model.torch_archive import read
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
    contents = read(tmp_path / "saved.pt")
    assert set(contents) == set(saved)
    for name, expected in saved.items():
        found = contents[name]
        assert type(found) is torch.Tensor and not found.requires_grad
        assert found.dtype == dtype and torch.equal(found, expected.detach()), name


def test_plain_data_beside_tensors(tmp_path: Path) -> None:
    saved = {"size": torch.Size([2, 3]), "type": torch.float16, "device": torch.device("cuda", 1), "n": [1, (2.5, "x")]}
    torch.save(saved, tmp_path / "saved.pt")
    expected = {"size": (2, 3), "type": "torch.float16", "device": "cuda:1", "n": [1, (2.5, "x")]}
    assert read(tmp_path / "saved.pt") == expected


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
    _one_line(write_archive(tmp_path / "odd.pt", records={"byteorder": b"odd"}), "Unknown endianness type: odd")
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
        (Stored(0, (5,), (1,)), "a tensor that reaches outside its numbers"),
        (Stored(1, (4,), (1,)), "a tensor that reaches outside its numbers"),
        (Stored(0, (2, 2), (3, 1)), "a tensor that reaches outside its numbers"),
        (Stored(0, (1 << 33,), (1,)), "a tensor that reaches outside its numbers"),
        (Stored(4, (1,), (1,)), "a tensor that reaches outside its numbers"),
        (Stored(0, (2,), (1 << 61,)), r"overflowed with sizes=\[2\] and strides="),
        (Stored(-1, (2,), (1,)), "offset -1"),
        (Stored(3, (2,), (-1,)), r"overflowed with sizes=\[2\] and strides="),
        (Stored(0, (-1,), (1,)), "numel: integer"),
        (Stored(0, (2,), (1, 1)), r"unequal size length \(1\) and stride length \(2\)"),
        (Stored(0, "ab", (1, 1)), "torch cannot read: set_.*UntypedStorage, int, str"),
        (Stored(True, (1,), (1,)), "torch cannot read: set_.*UntypedStorage, bool"),
        (Stored(0, (1 << 63,), (0,)), "torch cannot read: set_.*size"),
        (Stored(0, (1 << 62, 1 << 62), (0, 0)), "numel: integer"),
    ],
)
def test_a_tensor_that_reaches_outside_its_numbers_is_refused(tensor: Stored, needle: str, tmp_path: Path) -> None:
    pickled = _pickled({"model": {"a": tensor}}, tmp_path / "pickle")
    _one_line(write_archive(tmp_path / "evil.pt", pickled, {"data/0": NUMBERS}), f"refused: it holds .*{needle}")


@pytest.mark.parametrize(
    ("reference", "needle"),
    [
        (Reference("0", 5), "a storage of another size than its record"),
        (Reference("0", 1 << 40), "a storage of another size than its record"),
        (Reference("0", 1 << 80), "a storage of another size than its record"),
        (Reference("0", -1), "a storage of another size than its record"),
        (Reference("0", "4" * 100), "torch cannot read"),
        (Reference("1", 4), "a storage that is not in the file"),
        (Reference("../../etc/passwd", 4), "a storage that is not in the file"),
        (Reference("/etc/passwd", 4), "a storage that is not in the file"),
        (Reference("²", 4), "a storage that is not in the file"),
        (Reference("0", 4), "a TypedStorage, which is neither a tensor nor plain data"),
    ],
)
def test_a_storage_that_is_not_in_the_file_is_refused(reference: Reference, needle: str, tmp_path: Path) -> None:
    pickled = _pickled({"model": {"a": reference}}, tmp_path / "pickle")
    _one_line(write_archive(tmp_path / "evil.pt", pickled, {"data/0": NUMBERS}), f"refused: it holds .*{needle}")


def test_numbers_of_a_machine_with_the_other_order_of_bytes(tmp_path: Path) -> None:
    pickled = _pickled({"a": Stored(0, (4,), (1,))}, tmp_path / "pickle")
    records = {"byteorder": b"big", "data/0": struct.pack(">4f", 1.0, 2.0, 3.0, 4.0)}
    assert read(write_archive(tmp_path / "big.pt", pickled, records))["a"].tolist() == [1.0, 2.0, 3.0, 4.0]


def _with_ends(path: Path, directory: int, where: int, content: bytes) -> None:
    """Puts the larger ends of a file beyond 4 GB, which say that the directory begins at `directory`, behind
    `content`; `where` they say their own place is."""
    (count,) = struct.unpack("<H", content[-12:-10])
    (size,) = struct.unpack("<I", content[-10:-6])
    large = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, size, directory)
    locator = struct.pack("<IIQI", 0x07064B50, 0, where, 1)
    small = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    path.write_bytes(content[:-22] + large + locator + small)


def test_the_ends_of_a_file_beyond_4_gigabytes_are_read(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "large.pt", _pickled({"a": Stored(0, (4,), (1,))}, tmp_path / "pickle"),
                         {"data/0": NUMBERS})  # fmt: skip
    content = path.read_bytes()
    (directory,) = struct.unpack("<I", content[-6:-2])
    _with_ends(path, directory, len(content) - 22, content)
    assert read(path)["a"].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_a_second_directory_that_only_torch_would_find_is_refused(tmp_path: Path) -> None:
    """Else the file that is checked would not be the one that is read."""
    path = write_archive(tmp_path / "evil.pt", records={"data/0": NUMBERS})
    content = path.read_bytes()
    (directory,) = struct.unpack("<I", content[-6:-2])
    for wrong_directory, wrong_place in ((directory - 1, len(content) - 22), (directory, len(content) - 23)):
        _with_ends(path, wrong_directory, wrong_place, content)
        _one_line(path, "its directory is not where torch.save writes it")
    path.write_bytes(content[:-2] + b"\x01\x00#")  # a comment
    _one_line(path, "its directory is not where torch.save writes it")
    path.write_bytes(b"PK  " + content)
    _one_line(path, "its directory is not where torch.save writes it")
    with zipfile.ZipFile(write_archive(path), "a") as archive:
        archive.writestr("archive/Data/0", NUMBERS)
        archive.writestr("archive/data/0", NUMBERS)
    _one_line(path, "two records of the same name")


def test_records_outside_the_folder_are_never_read(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "evil.pt", _pickled({"model": {"a": Stored(0, (4,), (1,))}}, tmp_path / "pickle"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../../outside", NUMBERS)
        archive.writestr("archive/../data/0", NUMBERS)
    _one_line(path, "torch cannot read.*file in archive is not in a subdirectory")
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
    _one_line(path, "refused: it holds record archive/version, encrypted")


def test_a_huge_pickle_is_refused_before_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch_archive, "MAX_PICKLE_BYTES", 1000)
    _one_line(write_archive(tmp_path / "huge.pt", b"N" * 1001), "a data.pkl of 1,001 bytes, more than 1,000")
