"""Masks against annotations: scores, statistics, the threshold row, failures, the report."""
