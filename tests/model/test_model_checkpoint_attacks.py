"""Hostile checkpoints: attacks are refused with one line and have no effect; data comes out as data."""

import argparse
import copyreg
import enum
import functools
import os
import pickle
import random
import sys
import types
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from a2v_model.pickle_values import shown
from a2v_model.torch_archive import read
from model_archives import PRETRAINED, named, refused, text, write_archive

pytestmark = pytest.mark.slow


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.parts = function, args

    def __reduce__(self) -> Any:
        return self.parts


def _getattr_chain(command: str) -> bytes:
    """getattr(__import__('os'), 'system')(command), each step of it a REDUCE."""
    module = named("builtins.__import__") + text("os") + b"\x85R"
    system = named("builtins.getattr") + module + text("system") + b"\x86R"
    return b"\x80\x02" + system + text(command) + b"\x85R."


def _dotted(command: str) -> bytes:
    """STACK_GLOBAL with an attribute path, which find_class of protocol 4 follows."""
    return b"\x80\x04" + text("os") + text("system.__call__") + b"\x93" + text(command) + b"\x85R."


def _methodcaller(command: str) -> bytes:
    caller = named("operator.methodcaller") + text("system") + text(command) + b"\x86R"
    return b"\x80\x02" + caller + named("builtins.__import__") + text("os") + b"\x85R\x85R."


def _object_array(command: str) -> bytes:
    return pickle.dumps(np.array([Calls(os.system, command)], dtype=object), 2)


def _in_a_placeholder(command: str) -> bytes:
    """A call hidden in the state of an object that is harmless by itself."""
    call = named("os.system") + text(command) + b"\x85R"
    return b"\x80\x02" + named("argparse.Namespace") + b")\x81}" + text("a") + call + b"sb."


ATTACKS: dict[str, tuple[Callable[[str], bytes], str]] = {
    "REDUCE of os.system": (lambda c: pickle.dumps(Calls(os.system, c), 2), r"posix\.system"),
    "the same in protocol 5": (lambda c: pickle.dumps(Calls(os.system, c), 5), r"a pickle of protocol 5"),
    "the same in protocol 0": (lambda c: pickle.dumps(Calls(os.system, c), 0), r"the pickle instruction PUT"),
    "eval": (lambda c: pickle.dumps(Calls(eval, f"__import__('os').system({c!r})"), 2), r"__builtin__\.eval"),
    "exec": (lambda c: pickle.dumps(Calls(exec, f"import os; os.system({c!r})"), 2), r"__builtin__\.exec"),
    "chain of getattr": (_getattr_chain, r"builtins\.(getattr|__import__)"),
    "attribute path": (_dotted, r"a pickle of protocol 4"),
    "INST": (lambda c: b"(" + text(c) + b"ios\nsystem\n.", "INST"),
    "OBJ": (lambda c: b"\x80\x02(" + named("os.system") + text(c) + b"o.", "OBJ"),
    "map": (  # protocol 2 has the names of Python 2
        lambda c: pickle.dumps(Calls(list, Calls(map, os.system, [c])), 2),
        r"itertools\.imap",
    ),
    "partial": (lambda c: pickle.dumps(Calls(functools.partial(os.system, c)), 2), r"functools\.partial"),
    "methodcaller": (_methodcaller, r"operator\.methodcaller"),
    "a function of torch": (
        lambda c: b"\x80\x02" + named("torch.utils.collect_env.run") + text(c) + b"\x85R.",
        r"torch\.utils\.collect_env\.run",
    ),
    "torch's own rebuilding of types": (
        lambda c: pickle.dumps(Calls(torch._tensor._rebuild_from_type_v2, os.system, int, (c,), None), 2),
        r"torch\._tensor\._rebuild_from_type_v2",
    ),
    "numpy array of objects": (_object_array, r"numpy\.\S+"),
    "in a placeholder's state": (_in_a_placeholder, r"os\.system"),
    "default factory": (
        lambda c: (
            b"\x80\x02" + named("collections.defaultdict") + pickle.dumps(Calls(os.system, c), 2)[2:-1] + b"\x85R."
        ),
        r"posix\.system",
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_has_no_effect(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    make, needle = ATTACKS[name]
    pickled = make(f"touch {marker}")
    refused(write_archive(tmp_path / "evil.pt", pickled), f"refused: it holds .*{needle}")
    assert not marker.exists()
    try:
        pickle.loads(pickled)
    except Exception:
        assert name == "default factory"  # not callable; by then the harm is done
    assert marker.exists(), "no attack: Python's own unpickler must have run it"


@pytest.fixture
def extension() -> Iterator[int]:
    copyreg.add_extension("os", "system", 0x77)
    yield 0x77
    copyreg.remove_extension("os", "system", 0x77)
    copyreg.clear_extension_cache()


def test_registered_extensions_are_refused(extension: int, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    pickled = b"\x80\x02\x82" + bytes([extension]) + text(f"touch {marker}") + b"\x85R."
    refused(write_archive(tmp_path / "evil.pt", pickled), "refused: it holds .*EXT1")
    assert not marker.exists()
    pickle.loads(pickled)
    assert marker.exists()


NAMESPACE = named("argparse.Namespace")


@pytest.mark.parametrize(
    ("pickled", "needle"),
    [
        (NAMESPACE + b"}" + text("kept") + b"Nsb", "Can only build"),
        (NAMESPACE + b")\x81)R", "a call of an object of argparse.Namespace"),
        (b"}" + text("a") + b"Ns}b", "attributes set on a dict"),
        (named("torch.FloatStorage") + b")R", r"a call of torch\.FloatStorage"),
        (named("builtins.dict") + b")\x81", r"an object of builtins\.dict"),
        (named("copy_reg._reconstructor"), r"copyreg\._reconstructor"),
        (named("torch._utils._rebuild_wrapper_subclass"), "a function, which is neither"),
        (named("torch._utils._rebuild_wrapper_subclass") + b")R", r"torch\._utils\._rebuild_wrapper_subclass"),
        (named("torch.load"), r"torch\.load"),
        (named("torch.hub.load"), r"torch\.hub\.load"),
        (named("torch._utils._rebuild_tensor_v2.__globals__"), r"_rebuild_tensor_v2\.__globals__"),
        (named("numpy.core.multiarray._reconstruct"), r"numpy\.core\.multiarray\._reconstruct"),
        (named("omegaconf_evil.run"), r"omegaconf_evil\.run"),
        (named("typing.Any.__class__"), r"typing\.Any\.__class__"),
        (text("storage") + b"\x85Q", "torch cannot read"),
        (text("module") + b"\x85Q", "a reference that is not to a storage"),
        (b"}}Ns", "a dict as a key"),
        (b"})\x85\x85Ns", "a tuple as a key"),  # deep tuples would be hashed deeply
        (b"]NNs", "Can only SETITEM for dict"),
        (b"}Na", "Can only append to lists"),
        (b"\x8a\x20" + b"\x01" * 32, "an integer of 249 bits"),
        (b"\x80\x03N", "a pickle of protocol 3; read is only protocol 2"),
        (b"R", "damaged pickle"),
        (b"h\x05", "damaged pickle"),
        (b"(N", "does not end with one value"),
        (b"\xff", "damaged pickle"),
    ],
)
def test_what_is_not_data_is_refused(pickled: bytes, needle: str, tmp_path: Path) -> None:
    refused(write_archive(tmp_path / "evil.pt", b"\x80\x02" + pickled + b"."), needle)


def _read(pickled: bytes, folder: Path) -> Any:
    return read(write_archive(folder / "file.pt", pickled))


@pytest.mark.parametrize("name", ["__class__", "__setstate__", "__dict__", "args", "items"])
def test_attributes_that_mean_something_to_python_are_data_like_others(name: str, tmp_path: Path) -> None:
    state = b"}" + text(name) + named("argparse.Namespace") + b"s"
    for made in (NAMESPACE + b")\x81", NAMESPACE + b")R"):
        assert _read(b"\x80\x02" + made + state + b"b.", tmp_path) == {name: "argparse.Namespace"}
        assert _read(b"\x80\x02" + made + b"N" + state + b"\x86b.", tmp_path) == {name: "argparse.Namespace"}
    ordered = named("collections.OrderedDict") + b")R" + text("a") + b"Ns" + state + b"b."
    assert _read(b"\x80\x02" + ordered, tmp_path) == {"a": None}  # torch's `_metadata` is dropped


def test_numpy_numbers_are_numbers_and_numpy_objects_are_refused(tmp_path: Path) -> None:
    logged = {"best": np.float64(0.25), "n": np.int64(-3), "yes": np.bool_(True), "big": np.dtype(">f4").type(2)}
    assert _read(pickle.dumps(logged, 2), tmp_path) == {"best": 0.25, "n": -3, "yes": True, "big": 2.0}
    dtype = named("numpy.dtype") + text("O8") + b"\x85R"
    call = named("numpy.core.multiarray.scalar") + dtype + text("x") + b"\x86R."
    refused(write_archive(tmp_path / "evil.pt", b"\x80\x02" + call), "a numpy value of type")


def test_inert_packages_are_never_imported(tmp_path: Path) -> None:
    """Whatever follows their names is recorded, not looked up."""
    names = ["fairseq.os.system", "omegaconf.dictconfig.DictConfig", "examples.data2vec.Modality"]
    calls = b"".join(named(name) + text("touch x") + b"\x85R" for name in names)
    assert _read(b"\x80\x02](" + calls + b"e.", tmp_path) == ["touch x"] * 3
    assert not {"fairseq", "omegaconf", "examples"} & set(sys.modules)


@pytest.fixture
def foreign() -> Iterator[Callable[[str], Any]]:
    """Makes classes that pickle as those of packages that are not installed."""
    made: list[str] = []

    def make(name: str, *bases: type, **body: Any) -> Any:
        module, _, attribute = name.rpartition(".")
        if issubclass(bases[0] if bases else object, enum.Enum):
            kind: Any = bases[0](attribute, body, module=module)
        else:
            kind = type(attribute, bases, {"__module__": module, **body})
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            made.append(".".join(parts[:depth]))
            sys.modules.setdefault(made[-1], types.ModuleType(made[-1]))
        setattr(sys.modules[module], attribute, kind)
        return kind

    yield make
    for module in made:
        sys.modules.pop(module, None)


def _with(kind: Any, **attributes: Any) -> Any:
    made = kind.__new__(kind)
    made.__dict__.update(attributes)
    return made


def test_foreign_objects_become_plain_data(foreign: Callable[..., Any], tmp_path: Path) -> None:
    mapping, sequence, node, enum_node = (
        foreign(f"omegaconf.{name}") for name in ("dictconfig.DictConfig", "listconfig.ListConfig", "nodes.AnyNode",
                                                  "nodes.EnumNode")
    )  # fmt: skip
    modality = foreign("examples.data2vec.data.modality.Modality", enum.Enum, AUDIO=1, IMAGE=2)
    common = foreign("fairseq.dataclass.configs.CommonConfig")
    root = _with(mapping, _metadata={"ref_type": dict, "element_type": Any}, _parent=None, _content={})
    root._content["lr"] = _with(node, _val=0.25, _parent=root)
    root._content["betas"] = _with(sequence, _content=[_with(node, _val=v, _parent=root) for v in (0.9, 0.98)])
    root._content["type"] = _with(enum_node, _val=modality.AUDIO, _parent=root)
    root._content["later"] = _with(sequence, _content=None, _parent=root)
    value = {
        "cfg": root,
        "args": argparse.Namespace(arch="x", nested=argparse.Namespace(depth=3)),
        "common": _with(common, fp16=True, seed=5),
        "counts": defaultdict(int, {"a": 1}),
        "ordered": OrderedDict([("b", 2), ("a", (1, None))]),
        "bytes": b"\x00\xff",
        "set": {7},
    }
    assert _read(pickle.dumps(value, 2), tmp_path) == {
        "cfg": {"lr": 0.25, "betas": [0.9, 0.98], "type": 1, "later": None},
        "args": {"arch": "x", "nested": {"depth": 3}},
        "common": {"fp16": True, "seed": 5},
        "counts": {"a": 1},
        "ordered": {"b": 2, "a": (1, None)},
        "bytes": b"\x00\xff",
        "set": [7],
    }


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_checkpoint_gives_one_line_or_data(seed: int, tmp_path: Path) -> None:
    """Bytes of a real checkpoint changed at random, in the whole file or (with a right checksum) in its pickle: never
    another error, never an import."""
    whole = PRETRAINED.read_bytes()
    with zipfile.ZipFile(PRETRAINED) as archive:
        pickled = archive.read("archive/data.pkl")
        records = {name.removeprefix("archive/"): archive.read(name) for name in archive.namelist()}
    del records["data.pkl"]
    read(PRETRAINED)  # what torch imports for any file
    rng, before, errors = random.Random(seed), set(sys.modules), 0
    for turn in range(30):
        damaged = bytearray(pickled if turn % 3 else whole)
        for _ in range(rng.choice([1, 3, 30])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        path = tmp_path / "damaged.pt"
        if turn % 3:
            write_archive(path, bytes(damaged), records)
        else:
            path.write_bytes(damaged)
        try:
            read(path)
        except ValueError as error:
            errors += 1
            message = str(error)
            assert message.startswith(f"{path}: ") and "\n" not in message and message.isprintable()
    assert errors > 5 and set(sys.modules) == before


def test_messages_are_printable() -> None:
    assert shown("a\x1b[31m\nb") == r"a\x1b[31m\nb"
    assert len(shown("x" * 1000)) == 120
