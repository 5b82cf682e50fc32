"""Comparison with upstream Protenix at every module boundary. Used by scripts/fidelity and by the tests."""
