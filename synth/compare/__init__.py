"""Laws side by side: tumours of corpora and real ones, measured by the same code and shown on one page."""
