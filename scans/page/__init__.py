"""Pages that a person looks at: one file each, which needs no network."""
