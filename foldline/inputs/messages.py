"""One sentence per fault: pydantic's errors and faults of the JSON syntax, with the place and the remedy.

Knows the shape of models through pydantic only, not what they mean.
"""

import copy
import difflib
import json
import re
import typing
from collections.abc import Sequence
from typing import Any, NoReturn, TypeVar

from pydantic import BaseModel, ValidationError

from foldline.errors import InputError
from foldline.inputs.faults import Faults, listed, shown

Model = TypeVar("Model", bound=BaseModel)

# An escaped surrogate without its other half (or the same letters after an escaped backslash).
_HALF_CHARACTER = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_ELSEWHERE = {  # keys of other programs, in lower case, and what AlphaFold 3 has instead
    "msa": "unpairedMsa",
    "count": "id",
    "copies": "id",
    "ccd": "ccdCodes",
    "seeds": "modelSeeds",
    "constraints": "bondedAtomPairs",
    "covalent_bonds": "bondedAtomPairs",
}
_WANTED = {
    "string_type": ("text", "write it in double quotes"),
    "int_type": ("a whole number", "write one without quotes and decimal point"),
    "bool_type": ("true or false", "write one of the two without quotes"),
    "list_type": ("a list", "write it in square brackets"),
    "tuple_type": ("a list", "write it in square brackets"),
    "model_type": ("an object", "write its keys in braces"),
}


def validated(model: type[Model], raw: object, parts: Sequence[str | int], faults: Faults) -> Model | None:
    """`raw` as `model`, or None with a sentence for everything that is wrong.

    Unknown keys are recorded and then set aside, so that what stands beside them is still checked.
    """
    try:
        return model.model_validate(raw)
    except ValidationError as problem:
        errors = problem.errors(include_url=False)
    for error in errors:
        loc = tuple(error["loc"])
        faults.add((*parts, *loc), _sentence(error["type"], loc, error.get("input"), error.get("ctx") or {}, model))
    unknown = [tuple(error["loc"]) for error in errors if error["type"] == "extra_forbidden"]
    if len(unknown) < len(errors):
        return None
    return model.model_validate(_without(raw, unknown))


def unknown_key(key: str, known: Sequence[str]) -> str:
    """The sentence for a key that does not exist, with the nearest known one."""
    folded = {name.lower(): name for name in known}
    other = _ELSEWHERE.get(key.lower())
    near = difflib.get_close_matches(key.lower(), list(folded), n=1, cutoff=0.6) if other not in known else []
    if other in known:
        return f'unknown key "{key}": AlphaFold 3 calls it "{other}"'
    if near:
        return f'unknown key "{key}": did you mean "{folded[near[0]]}"?'
    return f'unknown key "{key}": take it out (known here: {listed(list(known))})'


def _sentence(
    kind: str, loc: Sequence[str | int], value: object, context: dict[str, Any], model: type[BaseModel]
) -> str:
    if kind == "missing":
        if isinstance(loc[-1], int):
            return f"a part is missing: give {loc[-1] + 1} or more values here"
        return f'the key "{loc[-1]}" is missing: add it'
    if kind == "extra_forbidden":
        return unknown_key(str(loc[-1]), _known_keys(model, loc[:-1]))
    if kind in _WANTED:
        what, remedy = _WANTED[kind]
        return f"{shown(value)} stands where {what} belongs: {remedy}"
    if kind == "too_long":
        return f"{context.get('actual_length')} values where {context.get('max_length')} belong: take out the rest"
    return f"{shown(value)} is not accepted here ({kind.replace('_', ' ')}): correct it"


def _known_keys(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    current: type[BaseModel] | None = model
    for part in loc:
        if isinstance(part, int) or current is None:
            continue
        fields = {field.alias or name: field.annotation for name, field in current.model_fields.items()}
        current = _inner_model(fields.get(part))
    if current is None:
        return []
    return [field.alias or name for name, field in current.model_fields.items()]


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for m in map(_inner_model, typing.get_args(annotation)) if m is not None), None)


def _without(raw: object, locs: Sequence[Sequence[str | int]]) -> object:
    """A copy without the values at `locs`; long strings are shared, not copied."""
    clean: Any = copy.deepcopy(raw)
    for loc in locs:
        holder = clean
        for part in loc[:-1]:
            holder = holder[part]
        del holder[loc[-1]]
    return clean


def parse_json(data: bytes | str, source: str) -> object:
    """The JSON value in `data`, strictly: no byte order mark, comments, trailing commas, NaN or repeated keys.

    Raises:
        InputError: One sentence with line, column and remedy.
    """
    text = data if isinstance(data, str) else _decoded(data, source)
    if text.startswith("\ufeff"):
        _refuse("line 1 column 1: the file starts with a byte order mark: save it as UTF-8 without one", source)
    half = _HALF_CHARACTER.search(text)
    try:
        value = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
    except json.JSONDecodeError as fault:
        _refuse(_syntax(fault, text), source)
    except _BadToken as fault:
        _refuse(_bad_token(text, fault.word), source)
    except RecursionError:
        _refuse("the JSON is nested too deeply to be a job: correct the brackets", source)
    except ValueError as fault:  # an integer with more digits than Python converts
        _refuse(f"a number in the file cannot be read ({fault}): shorten it", source)
    if half is not None and _has_half_characters(value):
        _refuse(f"{_place(text, half.start())}: {half.group()} is half of a character: take it out", source)
    return value


def _has_half_characters(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


class _BadToken(Exception):
    """Something that Python's JSON parser lets through: a repeated key (no word), NaN or Infinity (the word)."""

    def __init__(self, word: str = "") -> None:
        self.word = word
        super().__init__(word)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise _BadToken
    return result


def _no_constant(word: str) -> NoReturn:
    raise _BadToken(word)


def _bad_token(text: str, word: str) -> str:
    """The sentence for a `_BadToken`, found again by a walk over strings and brackets."""
    keys: list[set[str]] = []
    for token in re.finditer(r'("(?:[^"\\]|\\.)*")(\s*:)?|[{}\[\]]|NaN|-?Infinity', text):
        found = token.group()
        if found in ("{", "["):
            keys.append(set())
        elif found in ("}", "]"):
            keys.pop()
        elif word and found == word:
            return f"{_place(text, token.start())}: {word} is not JSON: write a number or null"
        elif token.group(2):
            key = json.loads(token.group(1), strict=False)
            if not word and key in keys[-1]:
                return f'{_place(text, token.start())}: the key "{key}" stands twice in one object: keep one of the two'
            keys[-1].add(key)
    return "a key stands twice in one object: keep one of the two"


def _place(text: str, position: int) -> str:
    return f"line {text.count(chr(10), 0, position) + 1} column {position - text.rfind(chr(10), 0, position)}"


def _decoded(data: bytes, source: str) -> str:
    utf16 = data[:2] in (b"\xff\xfe", b"\xfe\xff") or (len(data) >= 2 and 0 in data[:2])
    if utf16:
        _refuse("line 1 column 1: the file is UTF-16 or UTF-32: save it as UTF-8", source)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as fault:
        line = data.count(b"\n", 0, fault.start) + 1
        column = fault.start - data.rfind(b"\n", 0, fault.start)
        _refuse(f"line {line} column {column}: not UTF-8 text: save the file as UTF-8", source)


def _syntax(fault: json.JSONDecodeError, text: str) -> str:
    place = f"line {fault.lineno} column {fault.colno}"
    if not text.strip():
        return "line 1 column 1: the file is empty: write a job into it"
    rest = text[fault.pos :].lstrip()
    before = text[: fault.pos].rstrip()
    if rest.startswith(("//", "/*", "#")):
        return f"{place}: JSON has no comments: take the comment out"
    if rest[:1] in ("]", "}") and before.endswith(","):
        return f"{_place(text, len(before) - 1)}: a comma before the closing bracket: take the comma out"
    if rest.startswith(",") and rest[1:].lstrip()[:1] in ("]", "}"):  # Python 3.13 points at the comma
        return f"{place}: a comma before the closing bracket: take the comma out"
    if rest.startswith("'"):
        return f'{place}: text in single quotes: JSON wants double quotes (")'
    if "Extra data" in fault.msg:
        return f"{place}: more text after the end of the JSON: a file holds one job or one list of jobs"
    if "control character" in fault.msg:
        return f"{place}: a line break or tab inside a text: write it as \\n or \\t"
    if not rest:
        return f"{place}: the file ends too early: it is cut off or a closing bracket is missing"
    if rest.startswith(("True", "False", "None")):
        return f"{place}: {rest.split(None, 1)[0].rstrip(',}]')} is Python: JSON wants true, false or null"
    return f"{place}: not valid JSON ({fault.msg[:1].lower()}{fault.msg[1:]}): correct it there"


def _refuse(message: str, source: str) -> NoReturn:
    raise InputError(message, source=source)
