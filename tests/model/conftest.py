"""Fixtures: the golden model of the original implementation under this package's names."""

import pytest
import torch
from a2v_model import Pretrainer
from a2v_model.finetuning import load_exactly
from a2v_model.original_names import own_state, own_teacher_state
from model_goldens import GOLDEN_MODEL, GOLDEN_PRETRAIN, facts, golden_teacher, tensors
from torch import Tensor


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def student() -> dict[str, Tensor]:
    """The golden student under the original's names."""
    parts = [tensors(f"g3_student_{i}") for i in range(3)]
    return {key.removeprefix("student."): value for part in parts for key, value in part.items()}


@pytest.fixture(scope="session")
def teacher(student: dict[str, Tensor]) -> dict[str, Tensor]:
    """The golden teacher, made from the student by the rule in g3_pretrain.json."""
    return golden_teacher(student, facts("g3_pretrain")["teacher"]["keys"])


@pytest.fixture
def pretrainer(student: dict[str, Tensor], teacher: dict[str, Tensor]) -> Pretrainer:
    """The golden pretraining model, in eval mode."""
    model = Pretrainer(GOLDEN_MODEL, GOLDEN_PRETRAIN)
    load_exactly(model, own_state(student) | own_teacher_state(teacher))
    return model.eval()
