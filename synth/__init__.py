"""Synthesis: from healthy scans to a corpus of layered tumours."""

from scans import release

__version__ = release.VERSION
