"""Batch inference for Perceiver IO on Ray."""
