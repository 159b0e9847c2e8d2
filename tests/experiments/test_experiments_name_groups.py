"""Groups of recordings by how their names begin, as suggested recipes and `a2v adapt` take them."""

from __future__ import annotations

import pytest
from a2v_experiments.suggest.names import name_groups


@pytest.mark.parametrize(
    "names, pattern",
    [
        (["a_1", "a_2", "b_1", "b_2", "c_1", "c_2"], "^([^_/]+)_"),
        (["rec_1", "rec_2", "rec_3", "rec_4", "rec_5", "rec_6"], None),  # all begin alike
        (["1", "2", "3", "4", "5", "6"], None),
        (["a_1", "a_2", "b_1", "b_2", "b_3", "b_4"], None),  # two groups
        (["a_1", "a_2", "b_1", "b_2", "c_1", "loose"], None),  # one name has no group
        (["x_1_1", "x_1_2", "x_2_1", "x_2_2", "x_3_1", "x_3_2"], "^((?:[^_/]+_){1}[^_/]+)_"),
        (["s1-01", "s1-02", "s2-01", "s2-02", "s3-01", "s3-02"], "^([^-/]+)-"),
        (["s1/1", "s1/2", "s2/1", "s2/2", "s3/1", "s3/2"], "^([^/]+)/"),
        (["20200101_060000", "20200101_070000", "20200102_060000", "20200102_070000", "20200103_060000",
          "20200103_070000"], "^([^_/]+)_"),
    ],
)  # fmt: skip
def test_groups_only_where_names_are_clear(names, pattern):
    found = name_groups({f"{name}.wav": frozenset("z") for name in names})
    assert found.pattern == pattern
    assert pattern is None or len(found.groups) == 3


def test_folders_of_one_class_each_are_no_groups():
    """A species that is in one folder alone could not be learned and evaluated."""
    names = {f"{species}/{n}.wav": frozenset([species]) for species in ("crow", "jay", "owl") for n in range(3)}
    found = name_groups(names)
    assert found.pattern is None and found.rejected == "^([^/]+)/" and found.alone_in_group == "crow"
