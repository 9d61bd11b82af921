"""A corpus into others, by copy, and into what other tools read."""
