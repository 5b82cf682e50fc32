"""Chemistry: the component dictionary, residue tables, reference conformers and SMILES ligands. Knows no jobs, no chains."""
