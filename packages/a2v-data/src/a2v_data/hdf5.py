"""HDF5 files that anybody may have written: what is read of them is in the file itself, and whatever is wrong with one
is one line.

HDF5 can say that a dataset's values are in another file (external links and storage, virtual datasets), which is
refused: the content of any file of the user's would become labels. So are datasets that were never written, of which a
few bytes promise gigabytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from a2v_data.documents import reason
from a2v_data.storage import check_regular

MOST_PADDING = 1000  # times as many bytes as are stored: deflate cannot make more of them
MOST_OF_LARGE = 20  # the same of what is larger than LARGE
LARGE = 1 << 30  # bytes of values, which a few days of even times or of zeros have, however well they are compressed
LEAST_BYTES = 1 << 20  # are read in any case
TEXTS_AT_ONCE, TEXT_BYTES = 100, 1 << 26


class Hdf5Error(ValueError):
    """A file or a dataset cannot be used; one line, without the file's name."""


@contextmanager
def opened(path: Path, told: type[Exception] = Hdf5Error) -> Iterator[Any]:
    """An open `h5py.File`. Whatever goes wrong in the block raises `Hdf5Error`: on damaged files h5py raises nearly
    anything. told: an error that is left as it is."""
    import h5py

    try:
        check_regular(path)
        with h5py.File(path, "r") as file:
            # before anything follows it: it may be of a device or a pipe
            if (link := file.visititems_links(_to_another_file)) is not None:
                raise Hdf5Error(f"{link[:80]!r} is a link to another file; write its values into this one")
            yield file
    except (Hdf5Error, told):
        raise
    except Exception as error:
        raise Hdf5Error(reason(error, 120)) from error


def _to_another_file(name: str, link: Any) -> str | None:
    """The name of a link to another file, which ends the visit."""
    import h5py

    return name if isinstance(link, h5py.ExternalLink) else None


def read_numbers(group: Any, name: str, most: int | None = None) -> np.ndarray:
    """The same of a dataset that holds real numbers or truth values."""
    values = read_values(group, name, most)
    if values.dtype.kind not in "iufb":
        raise Hdf5Error(f"{name} holds {values.dtype}, not numbers")
    return values


def read_values(group: Any, name: str, most: int | None = None) -> np.ndarray:
    """All values of a dataset in a file or group. Raises `Hdf5Error` where they are not in this file, are none, or more
    than `most`."""
    import h5py

    node = group[name]
    if not isinstance(node, h5py.Dataset):
        raise Hdf5Error(f"{name} is no dataset")
    if node.shape is None:
        raise Hdf5Error(f"{name} is empty; it must have a value for each event")
    elsewhere = node.file.filename != group.file.filename or node.external or node.is_virtual
    stored = 0 if elsewhere else node.id.get_storage_size()
    if elsewhere or (not stored and node.size * node.dtype.itemsize > LEAST_BYTES):
        raise Hdf5Error(f"{name} is stored elsewhere or not at all; write it into this file")
    most_bytes = max(min(MOST_PADDING * stored + LEAST_BYTES, LARGE), MOST_OF_LARGE * stored)
    if node.size * node.dtype.itemsize > most_bytes:
        raise Hdf5Error(f"{name} holds many times as many values as bytes; write it again as it was measured")
    if most is not None and node.size > most:
        raise Hdf5Error(f"{name} has {node.size} values; it may have {most}")
    if node.dtype.kind == "O":
        if h5py.check_string_dtype(node.dtype) is None or node.ndim > 1:
            raise Hdf5Error(f"{name} holds neither numbers nor a list of texts")
        return _texts(node, Path(group.file.filename).stat().st_size)
    return np.asarray(node[()])


def _texts(node: Any, file_bytes: int) -> np.ndarray:
    """Texts of any length, of which a small file can hold one that all entries refer to. None is longer than the file,
    so that as many are read at once as fit."""
    if node.ndim == 0:
        return np.array([node[()]], object)
    found: list[Any] = []
    taken, step = 0, max(1, min(TEXTS_AT_ONCE, TEXT_BYTES // max(1, file_bytes)))
    for at in range(0, len(node), step):
        found += list(node[at : at + step])
        taken += sum(len(one) for one in found[at:] if isinstance(one, bytes | str))
        if taken > TEXT_BYTES + file_bytes:
            raise Hdf5Error("its texts are many times as long as the file")
    texts = np.empty(len(found), object)
    texts[:] = found
    return texts
