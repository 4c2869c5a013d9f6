"""Recipes: read, checked, planned.

    Recipe          a dataset described (`recipe`)
    Parameter       what it lets others choose (`parameters`)

`reading` and `writing` are YAML, `building` checks, `ordering` orders, `estimates` foretells what
a run will cost.
"""

from wordmill.recipes.parameters import Parameter
from wordmill.recipes.recipe import Recipe

__all__ = ["Parameter", "Recipe"]
