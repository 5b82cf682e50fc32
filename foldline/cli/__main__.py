"""`python -m foldline.cli` is the command line."""

from foldline.cli import main

main()
