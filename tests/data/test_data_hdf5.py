"""Label files and Parquet tables that anybody may have written: their own values within bounds, or one line."""

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from a2v_data.hdf5 import Hdf5Error, opened, read_numbers, read_values
from a2v_data.parquet_files import ParquetError, read_parquet_table


@pytest.fixture
def refused(tmp_path):
    def told(make, name="lbl", read=read_values):
        path = tmp_path / "labels.h5"
        with h5py.File(path, "w") as file:
            make(file)
        with pytest.raises(Hdf5Error) as error, opened(path) as file:
            read(file, name)
        return str(error.value)

    return told


@pytest.fixture
def other(tmp_path):
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["lbl"] = [b"secret"]
    return str(tmp_path / "other.h5")


def test_a_link_to_another_file_is_refused_before_it_is_followed(refused, other):
    def link(file):
        file["lbl"] = h5py.ExternalLink(other, "lbl")

    def behind(file):
        file["there"] = h5py.ExternalLink(other, "/")
        file["lbl"] = h5py.SoftLink("/there/lbl")

    assert refused(link) == "'lbl' is a link to another file; write its values into this one"
    assert refused(behind) == "'there' is a link to another file; write its values into this one"


def test_values_that_lie_in_another_file_or_nowhere_are_refused(refused, other):
    def virtual(file):
        layout = h5py.VirtualLayout((1,), "S6")
        layout[:] = h5py.VirtualSource(other, "lbl", (1,), "S6")
        file.create_virtual_dataset("lbl", layout)

    elsewhere = "lbl is stored elsewhere or not at all; write it into this file"
    assert refused(virtual) == elsewhere
    assert refused(lambda file: file.create_dataset("lbl", (4,), "S6", external=[(other, 0, 24)])) == elsewhere
    assert refused(lambda file: file.create_dataset("lbl", (400_000_000,), "f8")) == elsewhere


def test_types_that_are_no_labels_are_refused(refused):
    assert refused(lambda file: file.create_dataset("lbl", data=h5py.Empty("f8"))).startswith("lbl is empty")
    vlen = h5py.vlen_dtype(np.int32)
    assert "neither numbers" in refused(lambda file: file.create_dataset("lbl", (1,), vlen).__setitem__(0, [1, 2]))
    assert (
        refused(lambda file: file.create_dataset("foc", data=np.zeros(2, "c16")), "foc", read_numbers)
        == "foc holds complex128, not numbers"
    )


def test_a_scalar_and_a_million_zeros_are_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["lbl"] = "cc"
        file.create_dataset("foc", data=np.zeros(1_000_000), compression="gzip")
    with opened(tmp_path / "a.h5") as file:
        assert read_values(file, "lbl").tolist() == [b"cc"]
        assert read_numbers(file, "foc").sum() == 0 and read_numbers(file, "foc").size == 1_000_000
        with pytest.raises(Hdf5Error, match="foc has 1000000 values; it may have 999999"):
            read_numbers(file, "foc", 999_999)


def test_days_of_even_times_and_of_a_silent_sensor_are_read(tmp_path):
    """Which compress 70 and 700 times. And truth values that were never written, which are all false."""
    with h5py.File(tmp_path / "streams.h5", "w") as file:
        for name, values in (("time_s", np.arange(9_000_000) / 25), ("depth", np.zeros(9_000_000))):
            file.create_dataset(name, data=values, compression="gzip", compression_opts=1, shuffle=True)
        file.create_dataset("foc", (1000,), bool)
    with opened(tmp_path / "streams.h5") as file:
        assert len(read_numbers(file, "time_s")) == len(read_numbers(file, "depth")) == 9_000_000
        assert not read_numbers(file, "foc").any()


def test_parquet_is_read_within_bounds(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"label": ["cc", "cc", None], "onset_s": [1.0, 2.0, 3.0]}), path)
    assert read_parquet_table(path, 3).to_pydict() == {"label": ["cc", "cc", None], "onset_s": [1.0, 2.0, 3.0]}
    with pytest.raises(ParquetError, match="has 3 rows; it may have 2"):
        read_parquet_table(path, 2)
    once = pa.DictionaryArray.from_arrays(pa.repeat(pa.scalar(0, pa.int32()), 10_000), ["x" * 200_000])
    pq.write_table(pa.table({"label": once}), path)
    assert path.stat().st_size < 1_000_000  # and 2 GB of text
    with pytest.raises(ParquetError, match="holds texts that are many times as long as the file"):
        read_parquet_table(path)
    path.write_bytes(b"PAR1" + b"\x0f" * 40 + b"PAR1")
    with pytest.raises(ParquetError, match="is not readable as Parquet") as error:
        read_parquet_table(path)
    assert str(error.value).isprintable()
