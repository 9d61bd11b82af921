"""A corpus from one lab to another: packed whole, or as recipes that are made again there."""
