"""A user's own components: the text of an AlphaFold 3 `userCCD` field to `Component`s. Knows no dictionary, no jobs."""

import re
from collections.abc import Callable

import gemmi
import numpy as np

from foldline.chem.component import BOND_ORDERS, Component
from foldline.errors import InputError

_ATOM_KEYS = ("atom_id", "type_symbol")
_BOND_KEYS = ("atom_id_1", "atom_id_2", "value_order")
_IDEAL = tuple(f"pdbx_model_Cartn_{axis}_ideal" for axis in "xyz")
_MODEL = tuple(f"model_Cartn_{axis}" for axis in "xyz")
_ELEMENTS = frozenset(gemmi.Element(number).name.upper() for number in range(1, 119)) | {"D"}
_MAX_NAME = 4  # the network reads four characters of an atom name


def read_user_ccd(text: str, *, path: str = "$.userCCD") -> dict[str, Component]:
    r"""Components by code. A byte order mark, Windows line ends, literal `\n` and an absent `data_` line do no harm.

    Raises:
        InputError: the text is no mmCIF, or a component lacks mandatory keys or contradicts itself; it names them.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    if "\n" not in text.strip() and "\\n" in text:
        text = text.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')
    if not text.strip():
        return {}
    if not re.search(r"^\s*data_", text, re.IGNORECASE | re.MULTILINE):
        text = f"data_user\n{text}"
    try:
        document = gemmi.cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        reason = str(error).removeprefix("string:")
        hint = "" if text.count("\n") > 1 else "; a file is named with userCCDPath"
        raise InputError(f"the text is not mmCIF: {reason}{hint}", path=path) from None
    components = {}
    for block in document:
        component = _component(block, path)
        if component.code in components:
            raise InputError(f"component {component.code!r} is given twice", path=path)
        components[component.code] = component
    return components


def _component(block: gemmi.cif.Block, path: str) -> Component:
    code = _value(block, "id") or ("" if block.name.strip().lower() in ("", "user") else block.name)
    place = f"{path}[{code or block.name}]"
    atoms, bonds = _table(block, "_chem_comp_atom."), _table(block, "_chem_comp_bond.")
    missing = [] if code else ["_chem_comp.id"]
    missing += [f"_chem_comp_atom.{key}" for key in _ATOM_KEYS if key not in atoms]
    if len(atoms.get("atom_id", [])) > 1:
        missing += [f"_chem_comp_bond.{key}" for key in _BOND_KEYS if key not in bonds]
    if missing:
        raise InputError(f"the component lacks {', '.join(missing)}", path=place)
    names, n = atoms["atom_id"], len(atoms["atom_id"])
    elements = [element.upper() for element in atoms["type_symbol"]]
    _check_atoms(names, elements, place)
    row = {name: index for index, name in enumerate(names)}
    ends = list(zip(bonds.get("atom_id_1", []), bonds.get("atom_id_2", []), strict=True))
    unknown = sorted({name for pair in ends for name in pair} - set(row))
    if unknown:
        raise InputError(f"_chem_comp_bond names atoms that the component lacks: {', '.join(unknown)}", path=place)

    def column(table: dict[str, list[str]], key: str, count: int, default: str) -> np.ndarray:
        return np.array([value or default for value in table.get(key, [""] * count)], dtype=str).reshape(count)

    def xyz(keys: tuple[str, ...]) -> np.ndarray:
        columns = [_numbers(atoms, key, n, float("nan"), float, place) for key in keys]
        return np.array(columns, np.float32).T.reshape(n, 3)

    orders = [BOND_ORDERS.get(order.upper()[:4], 0) for order in bonds.get("value_order", [])]
    return Component(
        code=code,
        name=_value(block, "name"),
        formula=_value(block, "formula"),
        type=_value(block, "type") or "NON-POLYMER",
        one_letter_code=_value(block, "one_letter_code"),
        parent=_value(block, "mon_nstd_parent_comp_id"),
        atom_name=np.array(names),
        alt_atom_name=column(atoms, "alt_atom_id", n, ""),
        element=np.array(elements),
        charge=np.array(_numbers(atoms, "charge", n, 0, int, place), np.int8),
        leaving=column(atoms, "pdbx_leaving_atom_flag", n, "N") == "Y",
        aromatic=column(atoms, "pdbx_aromatic_flag", n, "N") == "Y",
        stereo=column(atoms, "pdbx_stereo_config", n, "N"),
        ideal=xyz(_IDEAL),
        model=xyz(_MODEL),
        bond_atoms=np.array([(row[a], row[b]) for a, b in ends], np.int32).reshape(-1, 2),
        bond_order=np.array(orders, np.int8),
        bond_aromatic=column(bonds, "pdbx_aromatic_flag", len(ends), "N") == "Y",
        bond_stereo=column(bonds, "pdbx_stereo_config", len(ends), "N"),
        source="user",
    )


def _check_atoms(names: list[str], elements: list[str], place: str) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    long = [name for name in names if not 0 < len(name) <= _MAX_NAME or not name.isascii()]
    strange = sorted(set(elements) - _ELEMENTS)
    if not names:
        raise InputError("the component has no atoms", path=place)
    if twice:
        raise InputError(f"atom names occur twice: {', '.join(twice)}", path=place)
    if long:
        raise InputError(f"atom names need 1 to {_MAX_NAME} ASCII characters: {', '.join(map(repr, long))}", path=place)
    if strange:
        raise InputError(
            f"_chem_comp_atom.type_symbol has no such element: {', '.join(map(repr, strange))}", path=place
        )


def _value(block: gemmi.cif.Block, key: str) -> str:
    found = block.find_value(f"_chem_comp.{key}")
    return gemmi.cif.as_string(found) if found and not gemmi.cif.is_null(found) else ""


def _table(block: gemmi.cif.Block, prefix: str) -> dict[str, list[str]]:
    table = block.find_mmcif_category(prefix)
    return {
        tag[len(prefix) :]: [
            "" if gemmi.cif.is_null(value) else gemmi.cif.as_string(value) for value in table.column(index)
        ]
        for index, tag in enumerate(table.tags)
    }


def _numbers(
    table: dict[str, list[str]], key: str, count: int, default: float, read: Callable[[str], float], place: str
) -> list[float]:
    values = []
    for text in table.get(key, [""] * count):
        try:
            values.append(read(text) if text else default)
        except ValueError:
            raise InputError(f"_chem_comp_atom.{key} has {text!r} where a number is needed", path=place) from None
    return values
