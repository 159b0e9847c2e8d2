"""How far a trial has come, and its score so far, where trials are compared after each validation of their trainings.

Time is counted in validations of the sweep's own recipe: a trial that trains twice as long, or looks twice as often,
is as far as the others after the same share of its trainings.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from ..recipe.sections import Recipe
from ..stages.experiment import Scores


@dataclass
class Pace:
    """One trial. recipe: its own; metric: the score of validation recordings; validations: of a fold of the sweep's own
    recipe.

    folds: how many are done, with all label shares; known: fold -> label share -> score.
    """

    recipe: Recipe
    metric: str
    validations: int
    folds: int = 0
    known: dict[int, dict[float, float]] = field(default_factory=dict)

    def after_fold(self, scores: Scores) -> None:
        """scores: of all folds that are done."""
        for share, by_fold in scores.items():
            for fold, found in zip(self.recipe.folds.selected, by_fold, strict=False):
                if self.metric in found:
                    self.known.setdefault(fold, {})[share] = found[self.metric]
        self.folds = max(len(by_fold) for by_fold in scores.values())

    def after_look(self, fold: int, share: float, count: int, scores: Mapping[str, float]) -> bool:
        """After a training's validation number `count`; whether there is a score to report. scores: of the weights that
        are kept so far."""
        shares = self.recipe.folds.label_shares
        of_each = {one: self._of_training(one) for one in shares}
        before = sum(of_each[one] for one in shares[: shares.index(share)])
        self._within = min((before + count) / max(sum(of_each.values()), 1), 1.0)
        self._fold = self.recipe.folds.selected.index(fold)
        if self.metric not in scores:
            return False
        self.known.setdefault(fold, {})[share] = scores[self.metric]
        return True

    @property
    def score(self) -> float:
        """Mean over the trainings so far; of one that goes on, that of the weights kept so far."""
        return statistics.fmean(score for by_share in self.known.values() for score in by_share.values())

    @property
    def time(self) -> float:
        """Validations of the sweep's own recipe that this is worth."""
        return self.validations * max(self.folds, self._fold + self._within)

    _fold: int = 0
    _within: float = 0.0

    def _of_training(self, share: float) -> int:
        stage = self.recipe.at_share(share).finetune
        return -(-stage.updates // stage.validation.every) if stage and stage.validation else 0
