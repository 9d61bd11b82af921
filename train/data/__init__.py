"""From a corpus to batches: order, split, crops, variation, and feeding a device."""
