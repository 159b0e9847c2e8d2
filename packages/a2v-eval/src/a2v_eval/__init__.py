"""Frame likelihoods to events, matching, scores and figures for animal sound events (spec section 8).

NumPy and SciPy only; figures import matplotlib when they are drawn. Two protocols, always named: `paper`,
exactly as the published tables were made, and `strict`, one-to-one matching in which a missed label is never
recalled.
"""

from .evaluation import Evaluation, EvaluationConfig, evaluate
from .events import EVENT, PROTOCOLS, EventConfig, find_events
from .labels import LABEL

__all__ = [
    "EVENT",
    "LABEL",
    "PROTOCOLS",
    "Evaluation",
    "EvaluationConfig",
    "EventConfig",
    "evaluate",
    "find_events",
]
