"""A network on real scans: what goes in, sliding windows, what is written."""
