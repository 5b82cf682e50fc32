"""From a job's name to the name of its folder and files. Knows nothing of files that exist."""

import hashlib
import re

MAX_LENGTH = 150  # file names add up to 60 characters, and 255 are allowed
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])", re.IGNORECASE)


def slug(name: str) -> str:
    """AlphaFold 3's sanitised name, made safe as the name of a folder and the start of file names.

    Spaces become `_`, only `[A-Za-z0-9_.-]` stay, letter case stays (AF3 folding_input.py `sanitised_name`). A name
    that loses more than its spaces, or that is unsafe (`..`, a leading `-` or `.`, a trailing `.`, a reserved word of
    Windows, more than 150 characters), is mended and ends in `-` and eight hexadecimal digits of its SHA-256. The
    result is one path component, is never empty, and depends on the name alone; `read_jobs` refuses equal slugs.
    """
    spaceless = name.replace(" ", "_")
    kept = re.sub(r"[^A-Za-z0-9_.\-]", "", spaceless)
    safe = kept.lstrip(".-").rstrip(".")
    if _RESERVED.fullmatch(safe.split(".")[0]):
        safe = f"job_{safe}"
    if safe == spaceless and len(safe) <= MAX_LENGTH and safe:
        return safe
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{safe[: MAX_LENGTH - 9].rstrip('.') or 'job'}-{digest}"
