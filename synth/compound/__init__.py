"""Compound: the generator of tumours with parts, foci, soft edges and a drawn visible contrast, beside what is none."""
