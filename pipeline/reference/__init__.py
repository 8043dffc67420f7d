"""transformers as the reference: its models on the engine's inputs, their differences and their speed."""
