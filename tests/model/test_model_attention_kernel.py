"""The Triton kernel against a float64 reference, in Triton's interpreter on the CPU; when it is used, and when not.

Triton interprets what was imported with TRITON_INTERPRET=1, so the tests run in a process of their own, which one test
starts.
"""

from __future__ import annotations

import importlib.util
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from a2v_model.attention import attend, in_a_kernel
from a2v_model.attention_bias import AttentionBias
from a2v_model.encoder import Alibi

CPU = torch.device("cpu")


INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
interpreted = pytest.mark.skipif(not INTERPRETED, reason="runs in the process of test_in_tritons_interpreter")


@pytest.mark.slow
@pytest.mark.rehearsal
@pytest.mark.skipif(INTERPRETED, reason="this is that process")
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="torch comes without Triton here")
def test_in_tritons_interpreter() -> None:
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "8 passed, 4 skipped" in done.stdout, done.stdout[-3000:]


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="there is nothing to compile")
@pytest.mark.parametrize("name", ["_forward", "_backward_q", "_backward_kv"])
def test_it_compiles_for_an_h100_whose_matrix_units_it_uses(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    triton = pytest.importorskip("triton", reason="torch comes without Triton here")
    from a2v_model import attention_triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    sizes = {"HEADS": 16, "WIDTH": 64, "BLOCK": attention_triton.BLOCK, "BLOCKS": 32, "DROPS": True}
    floats = {"index_ptr", "factor_ptr", "lse_ptr", "inner_ptr", "d_factor_ptr"}
    function = getattr(attention_triton, name)
    kinds, aligned = {}, {}
    for number, argument in enumerate(function.arg_names):
        if argument.endswith("_ptr"):
            kinds[argument] = "*fp32" if argument in floats else "*i8" if argument == "valid_ptr" else "*bf16"
            aligned[(number,)] = [["tt.divisibility", 16]]
        else:
            kinds[argument] = (
                "constexpr" if argument in sizes else "fp32" if argument in ("dropout", "scale") else "i32"
            )
    constants = {(function.arg_names.index(key),): value for key, value in sizes.items()}
    made = triton.compile(ASTSource(function, kinds, constants, aligned), target=GPUTarget("cuda", 90, 32))
    assert "wgmma.mma_async" in made.asm["ptx"] and made.metadata.shared < 100_000  # two blocks on a multiprocessor


@pytest.fixture(scope="module")
def kernel() -> Iterator[ModuleType]:
    """In blocks of 32: its own small case has three of them, the last one begun."""
    from a2v_model import attention_triton

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention_triton, "BLOCK", 32)
        yield attention_triton


@interpreted
@pytest.mark.parametrize("dtype, within", [(torch.float32, 5e-6), (torch.float16, 1e-3)])  # no bfloat16 products there
@pytest.mark.parametrize("dropout", [0.0, 0.25])
def test_outputs_and_all_gradients(kernel: ModuleType, dtype: torch.dtype, within: float, dropout: float) -> None:
    """With kept frames, padding, dropout: q, k, v and the factor of every head."""
    errors = kernel._errors(CPU, dtype, 16, dropout)
    assert len(errors) == 5 and max(errors) < within


@interpreted
def test_dropout_leaves_its_share_and_depends_on_the_seed_alone(kernel: ModuleType) -> None:
    first, again, other = (kernel.kept(1, 4, 64, seed, 0.1, CPU) for seed in (7, 7, 8))
    assert torch.equal(first, again) and not torch.equal(first, other)
    share = 4 * math.sqrt(0.1 * 0.9 / first[0, 0].numel())
    for one in first.flatten(0, 1):
        assert abs(float(one.double().mean()) - 0.9) < share
    heads = first.flatten(0, 1).double() - 0.9
    for a in range(4):  # rows and heads draw for themselves
        for b in range(a):
            assert abs(float((heads[a] * heads[b]).mean())) < 4 * 0.09 / 64


@interpreted
def test_without_padding_it_is_torchs_attention(kernel: ModuleType) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 4, 40, 16) for _ in range(3))
    index, factor = Alibi(4)(40)
    bias = AttentionBias(index, factor)
    with torch.no_grad():
        torch.testing.assert_close(kernel.attend_triton(q, k, v, bias), attend(q, k, v, bias), rtol=1e-5, atol=1e-6)


@interpreted
def test_it_is_used_where_it_was_seen_to_agree_only(kernel: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, half = torch.device("cuda"), torch.bfloat16
    index, factor = Alibi(4)(40)
    learned, fixed = AttentionBias(index, factor), AttentionBias(index, factor.detach())
    asked = []
    for answer in (False, True):
        monkeypatch.setattr(kernel, "agrees", lambda *given, answer=answer: asked.append(given) or answer)
        assert in_a_kernel(gpu, half, 64, learned) == in_a_kernel(gpu, half, 64, fixed, dropout=0.1) == answer
    assert set(asked) == {(gpu, half, 64)}
    assert not in_a_kernel(gpu, half, 64, fixed)  # torch's kernels do that
    assert not in_a_kernel(CPU, half, 64, learned) and not in_a_kernel(gpu, torch.float32, 64, learned)
    assert not in_a_kernel(gpu, half, 48, learned) and not in_a_kernel(gpu, half, 64, AttentionBias(None, None), 0.1)
    with torch.no_grad():
        assert not in_a_kernel(gpu, half, 64, learned)
    monkeypatch.setenv("A2V_ATTENTION", "torch")
    assert not in_a_kernel(gpu, half, 64, learned)


@interpreted
def test_what_disagrees_or_does_not_run_is_not_used(kernel: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    agrees, right = kernel.agrees.__wrapped__, kernel.attend_triton
    state = torch.random.get_rng_state()
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    assert agrees(CPU, torch.float32, 16)
    assert torch.equal(torch.random.get_rng_state(), state) and not seeded

    def fails(error: Exception) -> Any:
        def function(*given: object) -> torch.Tensor:
            raise error

        return function

    monkeypatch.setattr(kernel, "attend_triton", fails(RuntimeError("PTX of another card")))
    with pytest.warns(UserWarning, match="does not run here: PTX of another card"):
        assert not agrees(CPU, torch.float32, 16)
    monkeypatch.setattr(kernel, "attend_triton", fails(torch.OutOfMemoryError("full")))
    with pytest.raises(torch.OutOfMemoryError):  # passes, so it is no answer that is kept
        kernel.agrees(CPU, torch.float32, 16)
    monkeypatch.setattr(kernel, "attend_triton", right)
    assert kernel.agrees(CPU, torch.float32, 16)
    errors, wrong = kernel._errors, [0.0, float("nan")]
    monkeypatch.setattr(kernel, "_errors", lambda *given: wrong)
    with pytest.warns(UserWarning, match="off here"):
        assert not agrees(CPU, torch.float32, 16)
    monkeypatch.setattr(kernel, "_errors", errors)
    monkeypatch.setattr(kernel, "attend_triton", lambda *given: right(*given) * 1.01)
    assert errors(CPU, torch.float32, 16, 0.0)[0] == pytest.approx(0.01, rel=1e-3)
