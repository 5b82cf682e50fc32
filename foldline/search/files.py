"""Files that appear whole or not at all. Knows no contents."""

import os
import tempfile
from pathlib import Path

from foldline.errors import SearchError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place and rename it into place; folders are made.

    Raises:
        SearchError: the disk is full, or the folder may not be written to. Nothing is left behind.
    """
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
        with os.fdopen(number, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise SearchError(
            f"{path.name} cannot be stored in {path.parent} ({error.strerror or error}): free space there, or choose"
            " another folder with cache_dir"
        ) from error
