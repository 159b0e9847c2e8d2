"""Figures of an evaluation and of a model, for a journal's column and for MLflow.

Each function takes data, returns a matplotlib Figure and keeps no state; `save` writes it. matplotlib is imported
when something is drawn.
"""

from .figure_style import quiet_fonts, save
from .figures_confusion import confusion_figure
from .figures_events import fullest_stretch, likelihood_figure, within
from .figures_explain import Level, attention_figure, filters_figure, masks_figure
from .figures_precision import calibration_figure, precision_figure
from .figures_predictions import EventPanel, activity_figure, strip_figure
from .figures_review import review_figure
from .figures_scores import ap_per_class_figure, precision_recall_figure, threshold_figure
from .figures_sweep import TrialPoint, parameter_figure, variant_figure
from .figures_training import training_figure

__all__ = [
    "EventPanel",
    "Level",
    "TrialPoint",
    "activity_figure",
    "ap_per_class_figure",
    "attention_figure",
    "calibration_figure",
    "confusion_figure",
    "filters_figure",
    "fullest_stretch",
    "likelihood_figure",
    "masks_figure",
    "parameter_figure",
    "precision_figure",
    "precision_recall_figure",
    "quiet_fonts",
    "review_figure",
    "save",
    "strip_figure",
    "threshold_figure",
    "training_figure",
    "variant_figure",
    "within",
]
