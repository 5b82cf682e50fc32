"""`python -m foldline.cli` is the command line."""

from foldline.cli import start

start()
