"""What only a GPU can show. Everywhere else these tests are left out; A2V_GPU_TESTS_ON=cpu runs them there, to see that
they would run. `infra/gpu_check.sh` runs them beside benchmarks."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

for folder in ("model", "experiments"):  # whose goldens and small worlds are used here
    sys.path.append(str(Path(__file__).parents[1] / folder))

ON = os.environ.get("A2V_GPU_TESTS_ON", "cuda")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    absent = pytest.mark.skip(reason="no CUDA device here; infra/gpu_check.sh runs this where there is one")
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker("gpu")
            if ON == "cuda" and not torch.cuda.is_available():
                item.add_marker(absent)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """The GPU, whose float32 is float32: by itself it would convolve in TF32, with 10 bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    torch.set_num_threads(1)
    return torch.device(ON)
