"""How far a trial has come, and its score so far, where trials are compared after each validation of their trainings.

Time is counted in validations of the sweep's own recipe: a trial that trains twice as long, or looks twice as often,
is as far as the others after the same share of its trainings.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..recipe.sections import Recipe
from ..stages.seeds import BySeed


@dataclass
class Pace:
    """One trial. recipe: its own; metric: the score of validation recordings; validations: of a fold of the sweep's own
    recipe.

    folds: how many are done, for each seed, with all label shares; time: in validations; known: (seed, fold, label
    share) -> score.
    """

    recipe: Recipe
    metric: str
    validations: int
    folds: int = 0
    time: float = 0.0
    known: dict[tuple[int | None, int, float], float] = field(default_factory=dict)

    def after_fold(self, by_seed: BySeed) -> None:
        """by_seed: the scores of all folds that are done."""
        selected, last = self.recipe.folds.selected, self.recipe.folds.label_shares[-1]
        for seed, scores in by_seed.items():
            for share, by_fold in scores.items():
                for fold, found in zip(selected, by_fold, strict=False):
                    self.known[seed, fold, share] = found.get(self.metric, 0.0)
        self.folds = sum(len(scores[last]) for scores in by_seed.values())
        self.time = float(self.validations * self.folds)

    def after_look(self, seed: int | None, fold: int, share: float, count: int, scores: Mapping[str, float]) -> bool:
        """After a training's validation number `count`; whether there is a score to report. scores: what ranks of the
        weights that are kept so far; empty where an earlier call kept them."""
        folds = self.recipe.folds
        of_each = {one: self._validations(one) for one in folds.label_shares}
        before = sum(of_each[one] for one in folds.label_shares[: folds.label_shares.index(share)])
        self.time = self.validations * (self.folds + min((before + count) / sum(of_each.values()), 1.0))
        if scores:
            self.known[seed, fold, share] = scores.get(self.metric, 0.0)
        return bool(scores)

    @property
    def score(self) -> float:
        """Mean over the trainings so far; of one that goes on, that of the weights kept so far."""
        return statistics.fmean(self.known.values())

    def _validations(self, share: float) -> int:
        stage = self.recipe.at_share(share).finetune
        assert stage is not None and stage.validation is not None, "trials have validation where the sweep has"
        return -(-stage.updates // stage.validation.every)
