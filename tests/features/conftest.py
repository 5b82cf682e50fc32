"""Puts this folder on the path, so that tests and upstream's side share `feature_cases`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
