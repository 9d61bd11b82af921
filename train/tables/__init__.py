"""The tables of the paper: which networks each needs, as data; running what is missing; gathering; writing."""
