"""From a scan to its mask, in memory: the network run, whole or patch by patch, its layers read, parts left out."""
