"""Files by key, wherever they lie: a folder, or a bucket behind a URL."""
