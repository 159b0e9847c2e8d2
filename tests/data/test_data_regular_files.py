"""Pipes and devices among a user's files: to read one would wait for ever, or never end. Each is a line."""

import os
import signal
from pathlib import Path

import pytest
from a2v_data.annotation_config import AnnotationConfig
from a2v_data.audio import AudioError, read_info
from a2v_data.formats import read_table
from a2v_data.formats.side_files import _head
from a2v_data.formats.table import TableError, read_text
from a2v_data.groups import by_table
from a2v_data.hdf5 import Hdf5Error, opened
from a2v_data.importers.archives import MemberError, wanted_files
from a2v_data.manifests import parse_manifest
from a2v_data.parquet_files import ParquetError, read_parquet_table
from a2v_data.sources import _hash_entry
from a2v_data.storage import check_regular
from a2v_data.streams.tables import StreamError, has_times
from a2v_data.streams.tables import read_table as read_stream_table


@pytest.fixture(autouse=True)
def _no_waiting():
    """A reader that waits is stopped after 20 s."""

    def stop(*_: object) -> None:
        raise AssertionError("waited for a pipe")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["pipe", "device"])
def special(request, tmp_path: Path) -> Path:
    path = tmp_path / "special"
    if request.param == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    return path


READERS = [
    (read_text, TableError), (lambda path: read_table(path, AnnotationConfig(), True), TableError),
    (read_parquet_table, ParquetError), (parse_manifest, OSError), (lambda path: by_table(path, "animal"), ValueError),
    (lambda path: read_stream_table(path, "special"), StreamError), (read_info, AudioError),
]  # fmt: skip


@pytest.mark.parametrize("reader, error", READERS)
def test_it_is_refused(special: Path, reader, error) -> None:
    with pytest.raises(error) as raised:
        reader(special)
    assert "\n" not in str(raised.value)


def test_hdf5_labels(special: Path) -> None:
    with pytest.raises(Hdf5Error), opened(special):
        pass


def test_what_only_looks_passes_it_by(special: Path) -> None:
    csv = special.rename(special.with_name("a.csv"))
    assert not has_times(csv) and _head(csv, AnnotationConfig()) is None
    assert _hash_entry(csv, {}) == (None, "unreadable")
    ((_, content),) = wanted_files(csv.parent, lambda name: name == "a.csv")
    assert isinstance(content, MemberError) and "pipe or a device" in str(content)


def test_files_and_folders_are_no_devices(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").symlink_to("a")
    for path in (tmp_path, tmp_path / "a", tmp_path / "b"):
        check_regular(path)
    with pytest.raises(FileNotFoundError):
        check_regular(tmp_path / "c")
