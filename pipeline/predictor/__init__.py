"""Predict items of a Python program: what `perceiver run` does with files, without OUTPUT and without Ray."""
