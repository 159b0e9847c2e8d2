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

MOST_PADDING = 1000  # times as many bytes as are stored: more is no measurement; deflate cannot make more of them
LEAST_BYTES = 1 << 20  # are read in any case
TEXTS_AT_ONCE = 100


class Hdf5Error(ValueError):
    """A file or a dataset cannot be used; one line, without the file's name."""


@contextmanager
def opened(path: Path, told: type[Exception] = Hdf5Error) -> Iterator[Any]:
    """An open `h5py.File`. Whatever goes wrong in the block raises `Hdf5Error`: on damaged files h5py raises nearly
    anything. told: an error that is left as it is."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (Hdf5Error, told):
        raise
    except Exception as error:
        raise Hdf5Error(" ".join(str(error).split())[:120] or type(error).__name__) from error


def read_values(group: Any, name: str) -> np.ndarray:
    """All values of a dataset in a file or group. Raises `Hdf5Error` where they are not in this file, or are none."""
    import h5py

    node = group[name]
    if not isinstance(node, h5py.Dataset):
        raise Hdf5Error(f"{name} is no dataset")
    elsewhere = node.file.filename != group.file.filename or node.external or node.is_virtual
    stored = 0 if elsewhere else node.id.get_storage_size()
    if elsewhere or node.size * node.dtype.itemsize > MOST_PADDING * stored + (LEAST_BYTES if stored else 0):
        raise Hdf5Error(f"{name} is stored elsewhere or not at all; write it into this file")
    if node.dtype.kind == "O" and node.ndim == 1:
        return _texts(node, MOST_PADDING * Path(group.file.filename).stat().st_size)
    return np.asarray(node[()])


def _texts(node: Any, most_bytes: int) -> np.ndarray:
    """Texts of any length, of which a small file can hold one that all entries refer to."""
    found: list[Any] = []
    taken = 0
    for at in range(0, len(node), TEXTS_AT_ONCE):
        found += list(node[at : at + TEXTS_AT_ONCE])
        taken += sum(len(one) for one in found[at:] if isinstance(one, bytes | str))
        if taken > most_bytes:
            raise Hdf5Error("its texts are many times as long as the file")
    texts = np.empty(len(found), object)
    texts[:] = found
    return texts
