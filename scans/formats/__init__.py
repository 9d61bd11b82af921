"""What scans are stored as: each format read to its last byte, or refused in one sentence."""
