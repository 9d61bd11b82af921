"""Training: learn to split a scan into normal tissue, tumour and mask, then segment real tumours with it."""

from scans import release

__version__ = release.VERSION
