"""Measurements behind the figures in the docs, and the data that the shipped segmenter learns from."""
