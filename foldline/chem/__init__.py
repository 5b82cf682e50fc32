"""Chemistry: the component dictionary, residue tables, conformers, SMILES ligands. Knows no jobs, no chains."""
