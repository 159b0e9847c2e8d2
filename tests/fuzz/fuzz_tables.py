"""Tables of events and streams, labels and manifests: text, JSON, TextGrid, HDF5 and Parquet."""
# ruff: noqa: E501  # rows of tables

import json
from pathlib import Path
from random import Random

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from fuzz_mutate import LONG_SIZES, NUMBERS, damage_bytes, damage_text, damage_tree
from fuzz_run import Case, Family

RATE, SECONDS = 8000, 10
SECRET = "secret_of_another_file"
RAVEN = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tAnnotation"
CSV = "file,onset_s,offset_s,label,likelihood\nm.wav,1.0,2.0,cc,0.9\nm.wav,5.0,6.0,sn,0.7\na.wav,3.0,3.5,cc,0.2\n"
TABLES = {
    "m.csv": CSV.replace("a.wav", "m.wav"),
    "m.txt": "1.0\t2.0\tcc\n\\\t100\t900\n5.0\t6.0\tsn\n",
    "m.selections.txt": f"{RAVEN}\n1\tSpectrogram 1\t1\t1.0\t2.0\t100\t900\tcc\n2\tSpectrogram 1\t1\t5\t6\t0\t900\tsn\n",
    "m.BirdNET.results.csv": "Start (s),End (s),Scientific name,Common name,Confidence\n0.0,3.0,A b,Cc,0.9\n"
    "3.0,6.0,C d,Sn,0.4\n",
    "cluster.csv": "INDIR,FOLDER,IN FILE,CHANNEL,OFFSET,DURATION,MANUAL ID\n.,,m.wav,0,1.0,0.5,cc\n.,,a.wav,0,5.0,1,sn\n",
    "m.tsv": "Begin File\tBegin Time (s)\tEnd Time (s)\tFile Offset (s)\tLabel\nm.wav\t1\t2\t1\tcc\nm.wav\t5\t6\t5\tsn\n",
    "regions.csv": "file,onset_s,offset_s\nm.wav,0,9\na.wav,,\n",
    "weak.csv": "file,cc,sn\nm.wav,1,0\na.wav,0,1\n",
    "map.csv": "label,class\ncc,call\nsn,call\nCc,call\n",
    "durations.csv": "file,duration_s\nm.wav,10\na.wav,10\n",
}  # fmt: skip
TREE = {"recordings": [
    {"file": "m.wav", "events": [{"onset_s": 1.0, "offset_s": 2.0, "label": "cc", "likelihood": 0.9}]},
    {"file": "a.wav", "events": []},
]}  # fmt: skip
TEXTGRID = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 10
tiers? <exists>
size = 1
item []:
    item [1]:
        class = "IntervalTier"
        name = "calls"
        xmin = 0
        xmax = 10
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 1.5
            text = ""
        intervals [2]:
            xmin = 1.5
            xmax = 10
            text = "cc"
"""


def _recordings(folder: Path) -> None:
    noise_N = np.random.default_rng(0).normal(0, 0.1, RATE * SECONDS)
    for name in ("a.wav", "m.wav"):
        soundfile.write(folder / name, noise_N, RATE, subtype="PCM_16")


def _linked(ready: Path, folder: Path) -> Path:
    recordings = folder / "recordings"
    recordings.mkdir()
    for name in ("a.wav", "m.wav"):
        (recordings / name).hardlink_to(ready / name)
    return recordings


def _damaged(rng: Random, text: str, separator: str) -> tuple[str, bytes]:
    """One in six has a quote that is not closed, with more behind it than csv takes as one field."""
    if rng.random() < 1 / 6:
        at = rng.choice([i for i, letter in enumerate(text) if letter in f"{separator}\n"])
        return "quote not closed", (text[: at + 1] + '"' + text[at + 1 :] + "x\n" * 70_000).encode()
    return damage_text(rng, text, separator)


def _table(rng: Random, ready: Path, folder: Path) -> Case:
    recordings = _linked(ready, folder)
    name = rng.choice([*TABLES, "events.json", "evaluate", "evaluate"])
    if name == "evaluate":
        which = rng.choice(("said.csv", "true.csv", "durations.csv"))
        for one in ("said.csv", "true.csv"):
            (folder / one).write_text(CSV)
        (folder / "durations.csv").write_text(TABLES["durations.csv"])
        what, data = _damaged(rng, (folder / which).read_text(), ",")
        (folder / which).write_bytes(data)
        return Case(f"{which}: {what}", ("evaluate", "said.csv", "true.csv", "--durations", "durations.csv"))
    if name == "events.json":
        what, tree = damage_tree(rng, TREE)
        (recordings / name).write_text(json.dumps(tree))
    else:
        what, data = _damaged(rng, TABLES[name], "\t" if "\t" in TABLES[name] else ",")
        (recordings / name).write_bytes(data)
    options = {
        "weak.csv": ("--weak-labels", "weak.csv"), "map.csv": ("--mapping", "map.csv", "--unmapped", "keep"),
        "events.json": ("--tables", "events.json"),
    }  # fmt: skip
    if name in ("regions.csv", "weak.csv", "map.csv"):
        (recordings / "m.csv").write_text(TABLES["m.csv"])
    return Case(f"{name}: {what}", ("data", "check", "recordings", "--jobs", "1", *options.get(name, ())))


def _textgrid(rng: Random, ready: Path, folder: Path) -> Case:
    recordings = _linked(ready, folder)
    if rng.random() < 0.5:
        words = TEXTGRID.split(" ")
        numbers = [at for at, word in enumerate(words) if word[:1].isdigit()]
        at = rng.choice(numbers)
        number = rng.choice((*NUMBERS, "1e30", "0.5", "2000000000"))
        words[at] = number + words[at][len(words[at].split("\n")[0]) :]
        what, data = f"number {number[:20]}", " ".join(words).encode()
    else:
        what, data = _damaged(rng, TEXTGRID, " ")
    (recordings / "m.TextGrid").write_bytes(data)
    return Case(what, ("data", "check", "recordings", "--jobs", "1"))


LABELS = {
    "start_time_lbl": np.array([1.0, 5.0]), "end_time_lbl": np.array([2.0, 6.0]),
    "start_frame_lbl": np.array([8000, 40000]), "end_frame_lbl": np.array([16000, 48000]),
    "lbl": np.array([b"cc", b"sn"], "S8"), "lbl_cat": np.array([3, 2]), "foc": np.array([1, 0]),
}  # fmt: skip


def _ready_hdf5(folder: Path) -> None:
    _recordings(folder)
    with h5py.File(folder / "labels.h5", "w") as file:
        for name, values in LABELS.items():
            file.create_dataset(name, data=values, track_times=False)
    secret = {**LABELS, "lbl": np.array([SECRET.encode()] * 2)}
    with h5py.File(folder / "secret.h5", "w") as file:
        for name, values in secret.items():
            file[name] = values
    (folder / "secret.txt").write_bytes(SECRET.encode() * 2)


def _hdf5_of(rng: Random, file: h5py.File, name: str, secret: Path) -> str:
    """Another `name` in a file of labels, and what it is."""
    old = file[name][()]
    del file[name]
    what = rng.choice((
        "scalar", "shape", "type", "missing", "group", "huge", "gzip", "external", "link", "soft link", "virtual",
        "vlen", "one text", "reference", "compound", "itself", "null", "values", "more", "attribute",
    ))  # fmt: skip
    text = h5py.string_dtype()
    match what:
        case "scalar":
            file[name] = rng.choice((old.ravel()[0], SECRET[:6], 0, np.nan))
        case "shape":
            file[name] = rng.choice((old[:1], old[:0], np.stack([old, old]), old.reshape(2, 1, 1)))
        case "type":
            kind = rng.choice(("f2", "u8", "c16", "?", "S1", "S20000", ">i4"))
            file[name] = np.zeros(2, kind)
        case "group":
            file.create_group(name)
        case "huge":
            shape = rng.choice(((400_000_000,), (1 << 40,), (20_000, 20_000)))
            file.create_dataset(name, shape, old.dtype, chunks=rng.choice((None, True)))
        case "gzip":
            count = rng.choice((1 << 20, 1 << 24, 1 << 25))
            chunks = file.create_dataset(name, (count,), old.dtype, compression="gzip", chunks=(1 << 20,))
            chunks.id.write_direct_chunk((0,), _deflated(old.dtype.itemsize << 20))
            for at in range(1, count >> 20):
                chunks.id.write_direct_chunk((at << 20,), _deflated(old.dtype.itemsize << 20))
        case "external":
            file.create_dataset(name, (2,), "S22", external=[(str(secret / "secret.txt"), 0, 44)])
        case "link":
            file[name] = h5py.ExternalLink(str(secret / "secret.h5"), name)
        case "soft link":
            file["elsewhere"] = h5py.ExternalLink(str(secret / "secret.h5"), "/")
            file[name] = h5py.SoftLink(f"/elsewhere/{name}")
        case "virtual":
            layout = h5py.VirtualLayout((2,), "S22")
            layout[:] = h5py.VirtualSource(str(secret / "secret.h5"), name, (2,), "S22")
            file.create_virtual_dataset(name, layout)
        case "vlen":
            made = file.create_dataset(name, (2,), h5py.vlen_dtype(np.int32))
            made[0] = [1, 2, 3]
        case "one text":  # a text that all entries refer to
            made = file.create_dataset(name, (rng.choice((2, 20_000)),), text, chunks=True)
            made[:] = rng.choice(("cc", "x" * 30_000))
        case "reference":
            file[name] = np.array([file["foc" if name != "foc" else "lbl"].ref] * 2, h5py.ref_dtype)
        case "compound":
            file[name] = np.zeros(2, [("a", "f8"), ("b", "S3")])
        case "itself":
            file[name] = h5py.SoftLink(f"/{name}")
        case "null":
            file[name] = h5py.Empty("f8")
        case "values":
            numbers = (np.nan, np.inf, -1.0, 1e300, 2.0**63, -(2.0**70))
            file[name] = (
                np.array([rng.choice(numbers), 1.0]) if old.dtype.kind != "S" else np.array([b"\xff", b"\x1b[31m"])
            )
        case "more":
            file[name] = np.repeat(old, rng.choice((2, 50_000)))
        case "attribute":
            file[name] = old
            file[name].attrs.create("x", rng.choice(("y" * 60_000, 1.0)))
    return f"{name}: {what}"


def _deflated(size: int, _known: dict[int, bytes] = {}) -> bytes:  # noqa: B006  # made once
    import zlib

    if size not in _known:
        _known[size] = zlib.compress(bytes(size), 9)
    return _known[size]


def _meerkats_layout(ready: Path, folder: Path) -> Path:
    """A corpus of two labelled segments and a fold, in the layout of MeerKAT; label files of its own."""
    corpus = folder / "corpus"
    for name in ("wav", "lbl", "manifest"):
        (corpus / name).mkdir(parents=True)
    for stem, part in (("a", "train_0"), ("m", "valid_0")):
        (corpus / f"wav/{stem}.wav").hardlink_to(ready / f"{stem}.wav")
        (corpus / f"lbl/{stem}.h5").write_bytes((ready / "labels.h5").read_bytes())
        (corpus / f"manifest/{part}.tsv").write_text(f"wav\n{stem}.wav\t{RATE * SECONDS}\n")
    return corpus


def _hdf5(rng: Random, ready: Path, folder: Path) -> Case:
    corpus = _meerkats_layout(ready, folder)
    path = corpus / "lbl/m.h5"
    if rng.random() < 1 / 3:
        what, data = damage_bytes(rng, path.read_bytes())
        path.write_bytes(data)
    else:
        names = rng.sample(sorted(LABELS), rng.choice((1, 1, 1, 2)))
        with h5py.File(path, "a") as file:
            what = ", ".join(_hdf5_of(rng, file, rng.choice((name, name, "lbl")), ready) for name in names[:1])
    commands = ("check", "corpus", "--jobs", "1"), ("stats", "corpus"), ("prepare", "corpus", "--out", "out/p")
    command = rng.choice((commands[0], commands[0], commands[1]))
    return Case(f"{command[0]}: {what}", ("data", *command), check=_no_secret)


def _no_secret(folder: Path, output: str) -> str | None:
    return "the content of another file is told" if SECRET[:22] in output else None


def _ready_parquet(folder: Path) -> None:
    _recordings(folder)
    table = pa.table({
        "file": ["m.wav", "m.wav", "a.wav"], "onset_s": [1.0, 5.0, 3.0], "offset_s": [2.0, 6.0, 3.5],
        "label": ["cc", "sn", "cc"],
    })  # fmt: skip
    pq.write_table(table, folder / "whole.parquet")
    pq.write_table(table, folder / "plain.parquet", compression="NONE", use_dictionary=False)


def _parquet_of(rng: Random, path: Path) -> str:
    what = rng.choice(("type", "nested", "many rows", "long texts", "no rows", "no columns", "twice", "lists", "bytes"))
    columns: dict[str, pa.Array] = {
        "onset_s": pa.array([1.0]), "offset_s": pa.array([2.0]), "label": pa.array(["cc"]), "file": pa.array(["m.wav"])
    }  # fmt: skip
    at = rng.choice(sorted(columns))
    match what:
        case "type":
            columns[at] = rng.choice((
                pa.array([(1 << 62)], pa.timestamp("us")), pa.array([-(1 << 62)], pa.timestamp("ns")),
                pa.array([None], pa.null()), pa.array([True]), pa.array([(1 << 40)], pa.duration("s")),
                pa.array([float("nan")]), pa.array([(1 << 60)], pa.time64("us")), pa.array([2**31 - 1], pa.date32()),
            ))  # fmt: skip
        case "nested":
            columns[at] = pa.array([{"a": [{"b": 1}]}])
        case "many rows":
            count = 3_000_000
            columns = {key: pa.chunked_array([pa.repeat(one[0], 1_000_000)] * (count // 1_000_000))
                       for key, one in columns.items()}  # fmt: skip
        case "long texts":
            columns = {key: pa.repeat(one[0], 10_000) for key, one in columns.items()}
            columns[at] = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), 10_000), ["x" * 200_000])
        case "no rows":
            columns = {key: one[:0] for key, one in columns.items()}
        case "no columns":
            columns = {"": columns[at]}
        case "lists":
            columns = {key: pa.array([[one[0].as_py()] * rng.choice((0, 1, 3))]) for key, one in columns.items()}
        case "bytes":
            columns[at] = pa.array([b"\xff\xfe\x1b[31m"])
    names = [at if what == "twice" else key for key in columns]
    pq.write_table(pa.Table.from_arrays(list(columns.values()), names=names), path)
    return f"{at}: {what}"


def _parquet(rng: Random, ready: Path, folder: Path) -> Case:
    recordings = _linked(ready, folder)
    path = recordings / "m.parquet"
    if rng.random() < 2 / 3:
        whole = rng.choice(("whole", "plain"))
        what, data = damage_bytes(rng, (ready / f"{whole}.parquet").read_bytes())
        path.write_bytes(data)
    else:
        what = _parquet_of(rng, path)
    return Case(what, ("data", "check", "recordings", "--jobs", "1"))


def _ready_streams(folder: Path) -> None:
    times_s = np.arange(40) / 4
    table = pa.table({"time_s": times_s, "x": times_s * 2, "y": times_s + 1})
    pq.write_table(table, folder / "m.parquet")
    rows = "".join(f"{one},{2 * one},{one + 1}\n" for one in times_s.tolist())
    (folder / "m.csv").write_text(f"time_s,x,y\n{rows}")
    with h5py.File(folder / "m.h5", "w") as file:
        for name in ("time_s", "x", "y"):
            file[name] = table[name].to_numpy()


def _read_streams(source: Path) -> None:
    from a2v_data.streams.config import StreamConfig
    from a2v_data.streams.folder import StreamFolder
    from a2v_data.streams.tables import StreamError

    config = {"acc": StreamConfig(rate=4, columns=["x", "y"])}
    try:
        found = StreamFolder.find(source, source / "audio", ["m.wav"], config)
        table = found.of("m.wav")
        for name, grid in ({} if table is None else table.grids(SECONDS)).items():
            print(name, grid.shape)
    except StreamError as error:
        raise SystemExit(f"{error}") from None


def _streams(rng: Random, ready: Path, folder: Path) -> Case:
    suffix = rng.choice(("csv", "parquet", "h5", "h5"))
    (folder / "streams").mkdir()
    path = folder / f"streams/m.{suffix}"
    whole = (ready / f"m.{suffix}").read_bytes()
    path.write_bytes(whole)
    if suffix == "csv":
        what, data = _damaged(rng, whole.decode(), ",")
        path.write_bytes(data)
    elif suffix == "h5" and rng.random() < 0.5:
        with h5py.File(path, "a") as file:
            what = _hdf5_stream(rng, file)
    else:
        what, data = damage_bytes(rng, whole)
        path.write_bytes(data)
    return Case(f"{suffix}: {what}", call=lambda: _read_streams(Path()))


def _hdf5_stream(rng: Random, file: h5py.File) -> str:
    name = rng.choice(("time_s", "x"))
    del file[name]
    what = rng.choice(("huge", "zeros", "text", "scalar", "group", "wide", "types", "values"))
    match what:
        case "huge":
            file.create_dataset(name, (rng.choice((400_000_000, 1 << 40)),), "f8", chunks=rng.choice((None, True)))
        case "zeros":
            made = file.create_dataset(name, (1 << 27,), "f8", compression="gzip", chunks=(1 << 20,))
            for at in range(0, 1 << 27, 1 << 20):
                made.id.write_direct_chunk((at,), _deflated(8 << 20))
        case "text":
            file[name] = ["a"] * 40
        case "scalar":
            file[name] = 1.0
        case "group":
            file.create_group(name)
        case "wide":
            file[name] = np.zeros((40, 3))
        case "types":
            file[name] = np.zeros(40, rng.choice(("f2", "u1", "?", "c8", ">u8")))
        case "values":
            file[name] = np.full(40, rng.choice((np.nan, np.inf, 1e300, -1e300, -1.0)))
    return f"{name}: {what}"


def _manifests(rng: Random, ready: Path, folder: Path) -> Case:
    corpus = _meerkats_layout(ready, folder)
    (corpus / "manifest/train_0_10.tsv").write_bytes((corpus / "manifest/train_0.tsv").read_bytes())
    path = corpus / f"manifest/{rng.choice(('train_0', 'valid_0', 'train_0_10'))}.tsv"
    if rng.random() < 1 / 4:
        number = str(rng.choice((*LONG_SIZES, "9" * 5000, "-1", "1e9", "٣")))
        what, data = f"samples {number[:30]}", f"wav\na.wav\t{number}\n".encode()
    else:
        what, data = damage_text(rng, path.read_text())
    path.write_bytes(data)
    command = rng.choice((("check", "corpus", "--jobs", "1"), ("stats", "corpus", "--folds", "corpus/manifest")))
    return Case(f"{command[0]}: {what}", ("data", *command))


FAMILIES = (
    Family("tables", _table, _recordings),
    Family("textgrid", _textgrid, _recordings),
    Family("hdf5", _hdf5, _ready_hdf5),
    Family("parquet", _parquet, _ready_parquet),
    Family("streams", _streams, _ready_streams),
    Family("manifests", _manifests, _ready_hdf5),
)
