"""Alignment and template search: tools, databases, cache and AlphaFold 3's merging. Knows no network and no torch."""
