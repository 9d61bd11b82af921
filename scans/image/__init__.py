"""One scan: read, checked, brought into the network's cube and back, written."""
