"""Pages of results that lie in a store: a job's files are brought here for the time in which its page is made.

Knows where files are; not what is in them.
"""

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from foldline import remote
from foldline.errors import InputError, WriteError
from foldline.outputs.layout import is_of_result

AT_ONCE = 8  # files that come at a time


def made_in_store(url: str, make: Callable[[Path], list[Path]]) -> list[str]:
    """Put the files into a job's folder in a store that `make` makes of that folder; returns their URLs.

    Raises:
        InputError: it is no result.
        WriteError: the store cannot be read or written to.
    """
    url = url.rstrip("/")
    name = url.rpartition("/")[2]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / name
        try:
            files = [file for file in remote.files(url) if is_of_result(name, file) and not file.endswith(".npz")]
            for file in files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
            with ThreadPoolExecutor(AT_ONCE) as pool:
                list(pool.map(lambda file: remote.fetch(f"{url}/{file}", folder / file), files))
            if not files:
                raise InputError(f"{url} has no result of a job in it: name DIR/<job> of predict")
            made = make(folder)
            for path in made:
                remote.write(path, f"{url}/{path.name}")
        except remote.RemoteError as error:
            raise WriteError(str(error)) from error
        except InputError as error:
            raise InputError(str(error).replace(str(folder), url)) from error
    return [f"{url}/{path.name}" for path in made]
