"""The driver of a run: from options to a manifest."""
