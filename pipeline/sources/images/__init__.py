"""Decoding of images to pixels: formats, layouts, sequences and frame pairs."""
