"""What the sweep's own process does while trials run: a line for each start and end, a bar, and tidy runs in MLflow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune import Callback
from tqdm import tqdm

from ..basics.errors import UserError
from ..store.lookup import share_prefix
from ..store.tags import ERROR, PRUNED, TRIAL, having
from ..store.tracking import Store
from .trial import SCORE, TIME, Task
from .trials import trial_name


class Watch(Callback):
    """Ray Tune's callback of one sweep. failed: trial -> reason, of this call."""

    def __init__(
        self, task: Task, store: Store, folds: int, total: int, shown: tqdm, say: Callable[[str], None]
    ) -> None:
        self.task, self.store, self.folds, self.total = task, store, folds, total
        self.shown, self.say = shown, say
        self.started = 0
        self.failed: dict[str, str] = {}
        self.done: dict[str, int] = {}  # folds of each trial

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune keeps a copy of its callbacks on disk; nobody reads it here, and a store cannot be copied."""
        return {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self.started += 1
        self.say(f"trial {self.started} of {self.total}, {self._name(trial)}: started")

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self.shown.update(result["folds"] - self.done.get(trial.trial_id, 0))
        self.done[trial.trial_id] = result["folds"]

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        result = trial.last_result
        if SCORE not in result:
            return
        told = f"{self.task.metric} {result[SCORE]:.3f} over {result['folds']} folds"
        if result["folds"] < self.folds:
            close(self.store, result["run_id"], "KILLED")
            self.store.tag(result["run_id"], PRUNED, "true")
            after = f"{result['folds']} of {self.folds} folds"
            if self.task.validations:
                after = f"{result[TIME]:g} of {self.task.validations * self.folds} validations"
                self._keep_score(result)
            told = f"pruned, {self.task.metric} {result[SCORE]:.3f} after {after}"
        self.say(f"{self._name(trial)}: {told}")

    def _keep_score(self, result: dict[str, Any]) -> None:
        """Of a trial that was pruned within its first fold: a later call of Optuna is to know it."""
        shares = self.task.file.resolve().folds.label_shares
        names = [f"{share_prefix(share, len(shares))}{self.task.metric}_mean" for share in shares]
        if result["folds"] == 0:
            self.store.log_metrics(result["run_id"], dict.fromkeys(names, result[SCORE]))

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        name = self._name(trial)
        runs = self.store.children(self.task.parent, having(TRIAL, _quoted(name)))
        reason = runs[-1].data.tags.get(ERROR, "") if runs else ""
        if not reason:
            reason = _reason(trial)
        if runs:
            run_id = runs[-1].info.run_id
            self.store.tag(run_id, ERROR, reason)
            close(self.store, run_id, "FAILED")
        self.failed[name] = reason
        self.say(f"{name}: failed: {reason}")

    def _name(self, trial: Any) -> str:
        return self.task.known[trial.config["trial"]].name if self.task.known else trial_name(trial.config)


def close(store: Store, run_id: str, status: str) -> None:
    """A run and all below it that read RUNNING get this status: the process that ran them is gone."""
    for child in store.children(run_id):
        close(store, child.info.run_id, status)
    if store.run(run_id).info.status == "RUNNING":
        store.finish(run_id, status)


def close_children(store: Store, run_id: str, status: str) -> None:
    for child in store.children(run_id):
        close(store, child.info.run_id, status)


def _reason(trial: Any) -> str:
    """Why Ray gave a trial up: of the error that it kept, the line that says something."""
    error = trial.get_pickled_error() or trial.get_error()
    lines = [line.strip() for line in str(getattr(error, "cause", None) or error or "").splitlines() if line.strip()]
    if not lines or "ActorDied" in type(error).__name__ or "NodeDied" in type(error).__name__:
        return "its process ended unexpectedly (killed, out of memory, or its machine went away)"
    return (lines[0] if type(getattr(error, "cause", None)) is UserError else lines[-1])[:500]


def _quoted(name: str) -> str:
    return name.replace("'", "\\'")
