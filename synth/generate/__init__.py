"""From sources to a corpus: planned, made by many workers, watched, repaired."""
