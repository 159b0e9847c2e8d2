"""Checkpoints: complete or invisible, and nothing of a model or optimiser is lost in one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from a2v_experiments.basics.errors import UserError
from a2v_experiments.training import checkpoints
from experiments_faults import small_files
from torch import nn


def trained(seed: int, steps: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model with a buffer, a frozen part and an optimiser that has momentum for the rest."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    model[2].requires_grad_(False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(steps):
        model(torch.randn(8, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


def same(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


def test_weights_buffers_moments_and_state_come_back_to_the_bit(tmp_path):
    model, optimizer = trained(0, 3)
    pending = [{"step": 2, "time_ms": 5, "metrics": {"loss": 0.1, "other": float("nan")}}]
    checkpoints.write(tmp_path / "update-00000003", model, optimizer, {"updates": 3, "pending_metrics": pending})
    other, fresh = trained(1, 0)
    state = checkpoints.read(tmp_path / "update-00000003", other, fresh)
    assert state["updates"] == 3 and state["pending_metrics"][0]["metrics"]["loss"] == 0.1
    assert same(model.state_dict(), other.state_dict())
    parameters = list(zip(model.parameters(), other.parameters(), strict=True))
    assert [bool(optimizer.state[a]) for a, _ in parameters] == [True] * 4 + [False] * 2
    for a, b in parameters:
        assert same(optimizer.state[a], fresh.state[b]) if optimizer.state[a] else not fresh.state[b]
    # and both go on alike
    for net, opt in ((model, optimizer), (other, fresh)):
        torch.manual_seed(9)
        net(torch.randn(8, 3)).square().sum().backward()
        opt.step()
    assert same(model.state_dict(), other.state_dict())


@pytest.mark.parametrize("fails_in", ["save_file", "json.dumps", "Path.rename"])
def test_a_crash_while_writing_leaves_the_older_one_the_newest(tmp_path, monkeypatch, fails_in):
    model, optimizer = trained(0, 1)
    checkpoints.write(tmp_path / checkpoints.name(1), model, optimizer, {"updates": 1})

    def crash(*arguments: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"a2v_experiments.training.checkpoints.{fails_in}", crash)
        with pytest.raises((OSError, UserError), match=r"(No|no) space"):
            checkpoints.write(tmp_path / checkpoints.name(2), model, optimizer, {"updates": 2})
    assert checkpoints.newest(tmp_path) == tmp_path / checkpoints.name(1)
    assert checkpoints.read_state(checkpoints.newest(tmp_path)) == {"updates": 1}
    checkpoints.write(tmp_path / checkpoints.name(2), model, optimizer, {"updates": 2})  # what is left is no hindrance
    assert checkpoints.newest(tmp_path) == tmp_path / checkpoints.name(2)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_it_is_invisible_until_everything_is_in_it(tmp_path, monkeypatch):
    """While any of its files is being written, the folder that `newest` looks at does not show it."""
    model, optimizer = trained(0, 1)
    seen: list[Path | None] = []
    save_file = checkpoints.save_file

    def watch(tensors: dict, path: Path) -> None:
        seen.append(checkpoints.newest(tmp_path))
        save_file(tensors, path)

    monkeypatch.setattr(checkpoints, "save_file", watch)
    checkpoints.write(tmp_path / checkpoints.name(7), model, optimizer, {"updates": 7})
    assert seen == [None, None] and checkpoints.newest(tmp_path) == tmp_path / checkpoints.name(7)


def test_writing_one_again_replaces_it(tmp_path):
    for value in (1, 2):
        model, optimizer = trained(value, value)
        checkpoints.write(tmp_path / checkpoints.name(4), model, optimizer, {"updates": 4, "value": value})
    assert checkpoints.read_state(tmp_path / checkpoints.name(4))["value"] == 2
    assert [path.name for path in tmp_path.iterdir()] == [checkpoints.name(4)]


def test_the_newest_is_the_one_with_most_updates(tmp_path):
    assert checkpoints.newest(tmp_path) is None and checkpoints.newest(tmp_path / "missing") is None
    model, optimizer = trained(0, 0)
    for updates in (90, 1000, 200):
        checkpoints.write(tmp_path / checkpoints.name(updates), model, optimizer, {"updates": updates})
    (tmp_path / "update-00009999").mkdir()  # no loop.json in it: not one of ours
    assert checkpoints.newest(tmp_path) == tmp_path / "update-00001000"


def test_a_disk_that_is_full_is_one_line_and_leaves_nothing_half_written(tmp_path):
    """A limit on the size of files stands for the disk: it fails in the same place, and needs no rights."""
    model, optimizer = trained(0, 1)
    checkpoints.write(tmp_path / checkpoints.name(1), model, optimizer, {"updates": 1})
    big, moments = nn.Linear(512, 512), torch.optim.AdamW([torch.zeros(1)])
    with small_files(100_000), pytest.raises(UserError) as caught:
        checkpoints.write(tmp_path / checkpoints.name(2), big, moments, {"updates": 2})
    where = re.escape(str(tmp_path / checkpoints.name(2)))
    line = rf"{where}: no space left on the disk: 1\.1 MB are needed, [0-9.]+ MB are free; free some and .*"
    assert re.fullmatch(line, str(caught.value)) and caught.value.code == 1
    assert [path.name for path in tmp_path.iterdir()] == [checkpoints.name(1)]
    assert checkpoints.read(tmp_path / checkpoints.name(1), *trained(1, 0)) == {"updates": 1}
    checkpoints.write(tmp_path / checkpoints.name(2), big, moments, {"updates": 2})
    assert checkpoints.newest(tmp_path) == tmp_path / checkpoints.name(2)
