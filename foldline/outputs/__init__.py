"""Outputs: a result as files in AlphaFold 3's layout. Knows no network, no search and no torch."""
