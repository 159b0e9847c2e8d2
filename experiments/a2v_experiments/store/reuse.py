"""What of an earlier call is reused: by default what has the same fingerprint, code included."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..basics.errors import UserError

if TYPE_CHECKING:
    from mlflow.entities import Run

STAGES = ("prepare", "folds", "pretrain", "finetune", "evaluate", "refit")
FOLLOWS = {  # a pretraining follows from audio, which folds seldom change, and then it is another one
    "prepare": {"folds", "pretrain", "finetune", "evaluate", "refit"},
    "folds": {"finetune", "evaluate", "refit"},
    "pretrain": {"finetune", "evaluate", "refit"},
    "finetune": {"evaluate", "refit"},
}


@dataclass(frozen=True)
class Reuse:
    """trust_code: what differs in code alone is reused too. forced: parts that run again whatever there is, those that
    follow from them included; since_ms: when the command began (ms since 1970), as what it has made itself is reused.

    An evaluation is in the run of its finetuning, and chooses the thresholds of a refit.
    """

    trust_code: bool = False
    forced: frozenset[str] = frozenset()
    since_ms: int = 0

    @classmethod
    def of(cls, trust_code: bool, force: list[str] | None) -> Reuse:
        """From the options of a command. Raises UserError for a stage that there is not."""
        for stage in force or []:
            if stage not in STAGES:
                raise UserError(f"--force {stage}: no such stage; one of {', '.join(STAGES)}")
        forced = frozenset(one for stage in force or [] for one in (stage, *FOLLOWS.get(stage, ())))
        return cls(trust_code, forced, int(time.time() * 1000) if forced else 0)

    def forces(self, stage: str) -> bool:
        """Whether a stage's run is made anew; of an experiment, a sweep and its trials where anything is."""
        with_scores = {"finetune", "evaluate"}
        parts = {"finetune": with_scores, "inner": with_scores, "refit": {"evaluate", "refit"}}.get(stage, {stage})
        return bool(self.forced if stage in ("experiment", "trial") else self.forced & parts)

    def trains(self, stage: str) -> bool:
        """Whether a stage's training is made anew."""
        return ("finetune" if stage == "inner" else stage) in self.forced

    def counts(self, run: Run, forced: bool) -> bool:
        """Whether a run may be reused. forced: whether what it is of is made anew."""
        return not forced or max(run.info.start_time, run.info.end_time or 0) >= self.since_ms


AS_USUAL = Reuse()
