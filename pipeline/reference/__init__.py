"""transformers as the reference: its models on the engine's inputs, their differences and their speed."""

from transformers.utils import logging

logging.disable_progress_bar()  # a model of a few tensors is loaded before a bar could be read
