"""`python -m foldline` is the command line. It knows nothing else."""

from foldline.cli import start

if __name__ == "__main__":
    start()
