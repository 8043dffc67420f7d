"""transformers as the reference: its models, sample inputs and checkpoints, and the engine's differences from it."""

from transformers.utils import logging

logging.disable_progress_bar()  # small models load before a bar is readable
