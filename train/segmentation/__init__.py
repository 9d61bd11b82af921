"""Scans of a folder, a BIDS dataset or a DICOM series segmented: what goes in, what is written, what is said of it."""
