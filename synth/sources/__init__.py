"""Healthy scans: found, made ready, kept, and read again."""
