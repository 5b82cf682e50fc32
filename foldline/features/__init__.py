"""From a job to the arrays that the network reads: alignments, templates, tokens, atoms, bonds, frames."""
