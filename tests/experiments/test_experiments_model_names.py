"""What tables call a model, as `a2v predict` writes it and reviews, exports and rounds read it."""

from __future__ import annotations

from pathlib import Path

import pytest
from a2v_experiments.models import name_of, split_name
from a2v_experiments.stages.rounds import _run_of

DIGEST = "0a1b2c3d4e5f6071"


def test_a_name_is_uri_or_folder_and_digest_and_is_taken_apart_again(tmp_path: Path) -> None:
    assert name_of("runs:/abc", DIGEST) == "runs:/abc@0a1b2c3d"
    assert name_of(str(tmp_path / "my@model"), DIGEST) == "my@model@0a1b2c3d"
    for source in ("runs:/abc", "models:/meerkat@best", "my@model"):
        assert split_name(f"{source}@0a1b2c3d") == (source, "0a1b2c3d")
    assert split_name("runs:/abc") == ("runs:/abc", "")
    assert split_name("models:/meerkat@best") == ("models:/meerkat@best", "")
    assert split_name(None) == ("", "")


@pytest.mark.parametrize("model", ["runs:/abc@0a1b2c3d", "runs:/abc/model@0a1b2c3d", "runs:/abc"])
def test_the_run_before_is_known_by_what_an_export_says_of_its_model(model: str) -> None:
    assert _run_of(model) == "abc"
