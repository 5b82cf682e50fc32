"""Parameters in the paper's language, one class per algorithm. Knows tensors and ops, not specs, plans or files."""
