"""Frame likelihoods to events, matching, scores and figures for animal sound events (spec section 8).

NumPy and SciPy only; figures import matplotlib when they are drawn. Two protocols, always named: `paper`,
exactly as the published tables were made, and `strict`, one-to-one matching in which a missed label is never
recalled.
"""

from .bootstrap import confidence_intervals
from .comparison import compare_folds, paired_test
from .evaluation import Collector, Evaluation, EvaluationConfig, MatchConfig, evaluate
from .event_tables import EVENT_ROW, evaluate_events
from .events import EVENT, PROTOCOLS, EventConfig, find_events
from .labels import LABEL

__all__ = [
    "EVENT",
    "EVENT_ROW",
    "LABEL",
    "PROTOCOLS",
    "Collector",
    "Evaluation",
    "EvaluationConfig",
    "EventConfig",
    "MatchConfig",
    "compare_folds",
    "confidence_intervals",
    "evaluate",
    "evaluate_events",
    "find_events",
    "paired_test",
]
