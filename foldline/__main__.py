"""`python -m foldline` is the command line. It knows nothing else."""

from foldline.cli import main

if __name__ == "__main__":
    main()
