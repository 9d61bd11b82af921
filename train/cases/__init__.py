"""Real scans and their annotations, for training and for scoring."""
