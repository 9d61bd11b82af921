"""What people and programs are told of a corpus: card, metadata, statistics, pictures."""
