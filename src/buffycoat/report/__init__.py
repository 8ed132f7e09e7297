"""Scores with intervals, one prediction per image, the submission, and the report."""
