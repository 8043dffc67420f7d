"""The recipes of all shipped checkpoints, by name."""

from collections.abc import Mapping

from pipeline.demo import clips, digits, letters, masked_text, motion, text_kinds
from pipeline.demo.recipe import Recipe

RECIPES: Mapping[str, Recipe] = {
    **digits.RECIPES,
    "letters": letters.RECIPE,
    "text-classification": text_kinds.RECIPE,
    "fill-mask": masked_text.RECIPE,
    "optical-flow": motion.RECIPE,
    "multimodal-autoencoding": clips.RECIPE,
}
