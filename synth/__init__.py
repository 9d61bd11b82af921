"""Synthesis: from healthy scans to a corpus of layered tumours."""

__version__ = "0.1.0"
