"""The recipes of all shipped checkpoints, by name."""

from collections.abc import Mapping

from pipeline.demo import digits
from pipeline.demo.recipe import Recipe

RECIPES: Mapping[str, Recipe] = {**digits.RECIPES}
