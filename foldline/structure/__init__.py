"""Structures: the atoms of a job, and templates read from mmCIF. Knows components and residues, not jobs."""
