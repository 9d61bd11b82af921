"""Training: learn to split a scan into normal tissue, tumour and mask, then segment real tumours with it."""
