"""Sections of the page, one per kind of prediction: what is shown, without how it looks."""
