"""The restricted unpickler: attacks are refused with one line and have no effect; data comes out as data."""

import argparse
import copyreg
import enum
import functools
import os
import pickle
import random
import struct
import sys
import types
import zipfile
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import a2v_model.pickle_values as values
import a2v_model.restricted_pickle as restricted
import numpy as np
import pytest
import torch
from a2v_model.original_checkpoint import import_checkpoint
from a2v_model.pickle_values import RefusedError, plain, shown
from a2v_model.restricted_pickle import load
from model_archives import PRETRAINED, write_archive


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.parts = function, args

    def __reduce__(self) -> Any:
        return self.parts


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _named(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def _getattr_chain(command: str) -> bytes:
    """getattr(__import__('os'), 'system')(command), each step of it a REDUCE."""
    module = _named("builtins.__import__") + _text("os") + b"\x85R"
    system = _named("builtins.getattr") + module + _text("system") + b"\x86R"
    return b"\x80\x02" + system + _text(command) + b"\x85R."


def _dotted(command: str) -> bytes:
    """STACK_GLOBAL with an attribute path, which find_class of protocol 4 follows."""
    return b"\x80\x04" + _text("os") + _text("system.__call__") + b"\x93" + _text(command) + b"\x85R."


def _methodcaller(command: str) -> bytes:
    caller = _named("operator.methodcaller") + _text("system") + _text(command) + b"\x86R"
    return b"\x80\x02" + caller + _named("builtins.__import__") + _text("os") + b"\x85R\x85R."


def _object_array(command: str) -> bytes:
    return pickle.dumps(np.array([Calls(os.system, command)], dtype=object), 2)


def _in_a_placeholder(command: str) -> bytes:
    """A call hidden in the state of an object that is harmless by itself."""
    call = _named("os.system") + _text(command) + b"\x85R"
    return b"\x80\x02" + _named("argparse.Namespace") + b")\x81}" + _text("a") + call + b"sb."


ATTACKS: dict[str, tuple[Callable[[str], bytes], str]] = {
    "REDUCE of os.system": (lambda c: pickle.dumps(Calls(os.system, c), 2), r"posix\.system"),
    "the same in protocol 5": (lambda c: pickle.dumps(Calls(os.system, c), 5), r"posix\.system"),
    "eval": (lambda c: pickle.dumps(Calls(eval, f"__import__('os').system({c!r})"), 2), r"builtins\.eval"),
    "exec": (lambda c: pickle.dumps(Calls(exec, f"import os; os.system({c!r})"), 4), r"builtins\.exec"),
    "chain of getattr": (_getattr_chain, r"builtins\.(getattr|__import__)"),
    "attribute path": (_dotted, r"os\.system\.__call__"),
    "INST": (lambda c: f"(S'{c}'\nios\nsystem\n.".encode(), "INST"),
    "OBJ": (lambda c: b"\x80\x02(" + _named("os.system") + _text(c) + b"o.", r"os\.system"),
    "map": (  # protocol 2 has the names of Python 2
        lambda c: pickle.dumps(Calls(list, Calls(map, os.system, [c])), 2),
        r"itertools\.imap",
    ),
    "partial": (lambda c: pickle.dumps(Calls(functools.partial(os.system, c)), 2), r"functools\.partial"),
    "methodcaller": (_methodcaller, r"operator\.methodcaller"),
    "a function of torch": (
        lambda c: b"\x80\x02" + _named("torch.utils.collect_env.run") + _text(c) + b"\x85R.",
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
            b"\x80\x02" + _named("collections.defaultdict") + pickle.dumps(Calls(os.system, c), 2)[2:-1] + b"\x85R."
        ),
        r"posix\.system",
    ),
}


def _refused(path: Path, needle: str) -> None:
    with pytest.raises(ValueError, match=needle) as error:
        import_checkpoint(path)
    message = str(error.value)
    assert "\n" not in message and message.startswith(f"{path}: ") and len(message) < len(str(path)) + 300


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_has_no_effect(name: str, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    make, needle = ATTACKS[name]
    pickled = make(f"touch {marker}")
    _refused(write_archive(tmp_path / "evil.pt", pickled), f"refused: it holds .*{needle}")
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
    pickled = b"\x80\x02\x82" + bytes([extension]) + _text(f"touch {marker}") + b"\x85R."
    _refused(write_archive(tmp_path / "evil.pt", pickled), "refused: it holds .*EXT1")
    assert not marker.exists()
    pickle.loads(pickled)
    assert marker.exists()


NAMESPACE = _named("argparse.Namespace")


@pytest.mark.parametrize(
    ("pickled", "needle"),
    [
        (NAMESPACE + b")\x81}" + _text("__class__") + _text("x") + b"sb", "__class__ set on an object of argparse"),
        (NAMESPACE + b")\x81}" + _text("__setstate__") + NAMESPACE + b"sb", "__setstate__ set on an object"),
        (NAMESPACE + b")\x81N}" + _text("__dict__") + b"Ns\x86b", "__dict__ set on an object"),
        (NAMESPACE + b"}" + _text("kept") + b"Nsb", r"attributes set on argparse\.Namespace"),
        (NAMESPACE + b")\x81)R", "a call of an object of argparse.Namespace"),
        (b"}" + _text("a") + b"Ns}b", "attributes set on a dict"),
        (_named("torch.FloatStorage") + b")R", r"a call of torch\.FloatStorage"),
        (_named("builtins.dict") + b")\x81", r"an object of builtins\.dict"),
        (_named("copy_reg._reconstructor"), r"copyreg\._reconstructor"),
        (_named("torch._utils._rebuild_wrapper_subclass"), r"torch\._utils\._rebuild_wrapper_subclass"),
        (_named("torch.load"), r"torch\.load"),
        (_named("torch.hub.load"), r"torch\.hub\.load"),
        (_named("torch._utils._rebuild_tensor_v2.__globals__"), r"_rebuild_tensor_v2\.__globals__"),
        (_named("numpy.core.multiarray._reconstruct"), r"numpy\.core\.multiarray\._reconstruct"),
        (_named("omegaconf_evil.run"), r"omegaconf_evil\.run"),
        (_named("typing.Any.__class__"), r"typing\.Any\.__class__"),
        (b"S'storage'\n\x85Q", "a reference that is not to a storage"),
        (b"}}Ns", "a dict as a key"),
        (b"})\x85\x85Ns", "a tuple as a key"),  # deep tuples would be hashed deeply
        (b"]NNs", "items put into a list"),
        (b"}Na", "values appended to a dict"),
        (b"\x96\x00\x00\x00\x00\x01\x00\x00\x00", "damaged pickle"),  # BYTEARRAY8 of 4 GB
        (b"\x8b\xff\xff\xff\x7f", "damaged pickle"),  # LONG4 of 2 GB
        (b"\x8b\x20\x00\x00\x00" + b"\x01" * 32, "an integer of 249 bits"),
        (b"R", "damaged pickle"),
        (b"h\x05", "damaged pickle"),
        (b"(N", "does not end with one value"),
        (b"\xff", "damaged pickle"),
    ],
)
def test_what_is_not_data_is_refused(pickled: bytes, needle: str, tmp_path: Path) -> None:
    _refused(write_archive(tmp_path / "evil.pt", b"\x80\x02" + pickled + b"."), needle)


def test_numpy_numbers_are_numbers_and_numpy_objects_are_refused() -> None:
    logged = {"best": np.float64(0.25), "n": np.int64(-3), "yes": np.bool_(True), "big": np.dtype(">f4").type(2)}
    assert plain(load(pickle.dumps(logged, 2))) == {"best": 0.25, "n": -3, "yes": True, "big": 2.0}
    dtype = _named("numpy.dtype") + _text("O8") + b"\x85R"
    call = _named("numpy.core.multiarray.scalar") + dtype + _text("x") + b"\x86R."
    with pytest.raises(RefusedError, match="a numpy value of type"):
        load(b"\x80\x02" + call)


def test_inert_packages_are_never_imported() -> None:
    """Whatever follows their names is recorded, not looked up."""
    names = ["fairseq.os.system", "omegaconf.dictconfig.DictConfig", "examples.data2vec.Modality"]
    calls = b"".join(_named(name) + _text("touch x") + b"\x85R" for name in names)
    assert plain(load(b"\x80\x02(" + calls + b"l.")) == ["touch x"] * 3
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


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_foreign_objects_become_plain_data(foreign: Callable[..., Any], protocol: int) -> None:
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
    assert plain(load(pickle.dumps(value, protocol))) == {
        "cfg": {"lr": 0.25, "betas": [0.9, 0.98], "type": 1, "later": None},
        "args": {"arch": "x", "nested": {"depth": 3}},
        "common": {"fp16": True, "seed": 5},
        "counts": {"a": 1},
        "ordered": {"b": 2, "a": (1, None)},
        "bytes": b"\x00\xff",
        "set": [7],
    }


def test_attributes_of_an_ordered_dict_are_dropped() -> None:
    state = OrderedDict(a=1)
    state._metadata = {"version": 1}  # type: ignore[attr-defined]
    assert plain(load(pickle.dumps(state, 2))) == {"a": 1}


@pytest.mark.parametrize(
    ("pickled", "needle"),
    [
        (b"]q\x00h\x00a.", "nested deeper than 100 levels"),  # a list in itself
        (b"]" * 5000 + b"a" * 4999 + b".", "nested deeper than 100 levels"),
        (b")" + b"\x85" * 500_000 + b".", "nested deeper than 100 levels"),
    ],
)
def test_deep_and_endless_values_are_refused(pickled: bytes, needle: str) -> None:
    with pytest.raises(RefusedError, match=needle):
        plain(load(b"\x80\x02" + pickled))


def test_values_that_multiply_by_reference_are_refused() -> None:
    """Fifty lists, each of them the one before twice: 2^50 values, unless they are counted."""
    value: list[Any] = [0]
    for _ in range(50):
        value = [value, value]
    pickled = pickle.dumps(value, 2)
    with pytest.raises(RefusedError, match="more than 1,000,000 values"):
        plain(load(pickled))
    assert len(shown(load(pickled))) <= 120  # nor do messages about them grow
    with pytest.raises(RefusedError, match="a set of"):
        load(b"\x80\x02" + _named("builtins.set") + _text("abc") + b"\x85R.")


def test_the_number_of_instructions_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restricted, "MAX_OPCODES", 1000)
    with pytest.raises(RefusedError, match="more than 1,000 instructions"):
        load(b"\x80\x02(" + b"]" * 2000 + b"l.")
    monkeypatch.setattr(values, "MAX_VALUES", 10)
    with pytest.raises(RefusedError, match="more than 10 values"):
        plain(load(pickle.dumps(list(range(100)), 2)))


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_pickle_gives_one_line_or_data(seed: int) -> None:
    """Bytes of a real checkpoint changed at random: never another error, never an import."""
    with zipfile.ZipFile(PRETRAINED) as archive:
        pickled = archive.read("archive/data.pkl")
    rng, before, refused = random.Random(seed), set(sys.modules), 0
    for _ in range(40):
        damaged = bytearray(pickled)
        for _ in range(rng.choice([1, 3, 30])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            plain(load(bytes(damaged), lambda reference: reference, {"torch._utils._rebuild_tensor_v2": lambda *a: 0}))
        except RefusedError as error:
            refused += 1
            assert "\n" not in str(error) and str(error).isprintable()
    assert refused > 5 and set(sys.modules) == before


def test_messages_are_printable() -> None:
    assert shown("a\x1b[31m\nb") == r"a\x1b[31m\nb"
    assert len(shown("x" * 1000)) == 120
