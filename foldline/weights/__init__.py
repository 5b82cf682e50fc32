"""Checkpoints: registry and download, lazy files, name maps, loading. Knows files and names, not devices or plans."""
