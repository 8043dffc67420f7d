"""The driver of a run: checks, preparation, passes, progress and status."""
