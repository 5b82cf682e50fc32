"""The Chemical Component Dictionary as a compact store in the user's cache, made once from biotite's bundled copy.

A folder of memory-mapped .npy columns opens in milliseconds. A user's own components lie over it. Knows no jobs and no
network; a component is a `Component`.
"""

import difflib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path

import filelock
import numpy as np

from foldline.chem.component import BOND_ORDERS, Component
from foldline.config import cache_root_of
from foldline.errors import InputError
from foldline.execute import Children

SCHEMA = 1
_TEXT_COLUMNS = {
    "name": "name",
    "formula": "formula",
    "type": "type",
    "one_letter_code": "one_letter_code",
    "parent": "mon_nstd_parent_comp_id",
}
_IDEAL = tuple(f"pdbx_model_Cartn_{axis}_ideal" for axis in "xyz")
_MODEL = tuple(f"model_Cartn_{axis}" for axis in "xyz")
_ATOM_BYTES = {
    "atom_name": "atom_id",
    "alt_atom_name": "alt_atom_id",
    "element": "type_symbol",
    "stereo": "pdbx_stereo_config",
}
_ATOM_FLAGS = {"leaving": "pdbx_leaving_atom_flag", "aromatic": "pdbx_aromatic_flag"}


class Components:
    """The dictionary with a user's components over it. Reading is thread-safe; an opened code is kept as one object."""

    def __init__(self, folder: Path, user: Mapping[str, Component] | None = None) -> None:
        """Use the store in `folder`, as written by `build_store`, under the components of `user`."""
        self.folder, self.user = folder, dict(user or {})
        self.info: dict[str, str] = json.loads((folder / "info.json").read_text(encoding="utf-8"))
        self._columns = {path.stem: np.load(path, mmap_mode="r") for path in folder.glob("*.npy")}
        self._codes = np.asarray(self._columns["code"])
        self._opened: dict[str, Component] = {}

    @classmethod
    def open(cls, cache_dir: Path | None = None, user: Mapping[str, Component] | None = None) -> "Components":
        """Open the store under `cache_dir` (default: the user's cache folder); the first call makes it (about 10 s).

        Raises:
            InputError: the folder cannot be written.
        """
        root = cache_root_of(cache_dir)
        folder = root / f"components-{version('biotite')}-{SCHEMA}"
        if not (folder / "info.json").is_file():
            try:
                root.mkdir(parents=True, exist_ok=True)
                with filelock.FileLock(f"{folder}.lock"):
                    if not (folder / "info.json").is_file():
                        _build_and_rename(root, folder)
            except OSError as error:
                raise _not_stored(root, error) from error
        return cls(folder, user)

    def with_user(self, user: Mapping[str, Component]) -> "Components":
        """The same dictionary with other user components over it."""
        other = Components(self.folder, user)
        other._opened = self._opened
        return other

    @property
    def date(self) -> str:
        """Date of the newest entry of the dictionary, ISO."""
        return self.info["date"]

    def __len__(self) -> int:
        """Number of components, the user's included."""
        return len(self._codes) + sum(1 for code in self.user if self._row(code) is None)

    def __contains__(self, code: object) -> bool:
        """Whether the code is known, whatever its case."""
        return isinstance(code, str) and self._canonical(code) is not None

    def codes(self) -> list[str]:
        """All codes, sorted."""
        return sorted({code.decode() for code in self._codes.tolist()} | set(self.user))

    def get(self, code: str) -> Component | None:
        """The component, or None. An exact user code wins, then an exact dictionary code, then the upper-case code."""
        name = self._canonical(code)
        if name is None:
            return None
        if name in self.user:
            return self.user[name]
        if name not in self._opened:
            row = self._row(name)
            assert row is not None
            self._opened[name] = self._read(row)
        return self._opened[name]

    def require(self, code: str, *, path: str = "") -> Component:
        """The component; an unknown code is an InputError at `path` with near codes and the dictionary's date."""
        component = self.get(code)
        if component is None:
            near = ", ".join(self.near(code))
            hint = f"; did you mean {near}" if near else ""
            raise InputError(
                f"component {code!r} is not in the Chemical Component Dictionary of {self.date}{hint}"
                " (a newer component can be given in userCCD, any molecule as SMILES)",
                path=path,
            )
        if not len(component.atom_name):
            raise InputError(f"component {code!r} has no atoms in the Chemical Component Dictionary", path=path)
        if not component.heavy.any():
            raise InputError(
                f"component {code!r} has no atom but hydrogen, and hydrogens are not predicted: leave it out", path=path
            )
        return component

    def near(self, code: str, count: int = 5) -> list[str]:
        """Codes that look like `code`, the most alike first."""
        return difflib.get_close_matches(code.upper(), self.codes(), n=count, cutoff=0.6)

    def _canonical(self, code: str) -> str | None:
        for name in (code, code.upper()):
            if name in self.user or self._row(name) is not None:
                return name
        folded = {name.upper(): name for name in self.user}
        return folded.get(code.upper())

    def _row(self, code: str) -> int | None:
        try:
            key = np.bytes_(code.encode("ascii"))
        except UnicodeEncodeError:
            return None
        row = int(np.searchsorted(self._codes, key))
        return row if row < len(self._codes) and self._codes[row] == key else None

    def _read(self, row: int) -> Component:
        column = self._columns
        atoms = slice(*column["atom_start"][row : row + 2].tolist())
        bonds = slice(*column["bond_start"][row : row + 2].tolist())

        def text(name: str) -> str:
            start, stop = column[f"{name}_start"][row : row + 2].tolist()
            return column[f"{name}_text"][start:stop].tobytes().decode("utf-8")

        return Component(
            code=column["code"][row].decode(),
            name=text("name"),
            formula=text("formula"),
            type=text("type"),
            one_letter_code=text("one_letter_code"),
            parent=text("parent"),
            atom_name=column["atom_name"][atoms].astype(str),
            alt_atom_name=column["alt_atom_name"][atoms].astype(str),
            element=column["element"][atoms].astype(str),
            charge=np.array(column["charge"][atoms]),
            leaving=np.array(column["leaving"][atoms]),
            aromatic=np.array(column["aromatic"][atoms]),
            stereo=column["stereo"][atoms].astype(str),
            ideal=np.array(column["ideal"][atoms]),
            model=np.array(column["model"][atoms]),
            bond_atoms=column["bond_atoms"][bonds].astype(np.int32),
            bond_order=np.array(column["bond_order"][bonds]),
            bond_aromatic=np.array(column["bond_aromatic"][bonds]),
            bond_stereo=column["bond_stereo"][bonds].astype(str),
        )


def _build_and_rename(root: Path, folder: Path) -> None:
    """Have the store made by a child: it takes 1.4 GB, and biotite comes with a plotting library."""
    scratch = Path(tempfile.mkdtemp(prefix=".components-", dir=root))
    children = Children(1)
    try:
        children.run(write_dictionary, scratch)
        if folder.exists():  # an incomplete folder: it has no info.json
            shutil.rmtree(folder)
        scratch.rename(folder)
    finally:
        children.close()
        shutil.rmtree(scratch, ignore_errors=True)


def write_dictionary(scratch: Path) -> None:
    """Write the store's files. Raises InputError where that is not possible."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it warns of a home that cannot be written to
    try:
        for name, array in dictionary_columns().items():
            np.save(scratch / f"{name}.npy", array)
        info = {"date": _newest_entry(), "biotite": version("biotite"), "schema": str(SCHEMA)}
        (scratch / "info.json").write_text(json.dumps(info), encoding="utf-8")
    except OSError as error:
        raise _not_stored(scratch.parent, error) from error


def _not_stored(root: Path, error: OSError) -> InputError:
    return InputError(
        f"the component dictionary cannot be stored in {root} ({error.strerror or error}); name another with cache_dir"
    )


def _newest_entry() -> str:
    from biotite.structure.info.ccd import get_ccd

    table = get_ccd()["chem_comp"]
    dates = np.concatenate([table[name].as_array(str) for name in ("pdbx_initial_date", "pdbx_modified_date")])
    return str(max(date for date in np.unique(dates).tolist() if date not in ("?", ".")))


def dictionary_columns() -> dict[str, np.ndarray]:
    """Biotite's dictionary as columns: components sorted by code, their atoms and bonds in dictionary order."""
    from biotite.structure.info.ccd import get_ccd

    block = get_ccd()
    heads, atoms, bonds = block["chem_comp"], block["chem_comp_atom"], block["chem_comp_bond"]
    code = heads["id"].as_array(str).astype("S5")
    order = np.argsort(code, kind="stable")
    code = code[order]
    columns: dict[str, np.ndarray] = {"code": code}
    for name, source in _TEXT_COLUMNS.items():
        columns |= _packed_text(name, _plain(heads[source].as_array(str)[order].tolist()))

    atom_row = np.searchsorted(code, atoms["comp_id"].as_array(str).astype("S5"))
    atom_order = np.argsort(atom_row, kind="stable")
    atom_row = atom_row[atom_order]
    columns["atom_start"] = np.searchsorted(atom_row, np.arange(len(code) + 1)).astype(np.int64)
    for name, source in _ATOM_BYTES.items():
        columns[name] = (
            np.char.upper(atoms[source].as_array(str).astype("S4")[atom_order])
            if name == "element"
            else (atoms[source].as_array(str).astype("S4")[atom_order])
        )
    for name, source in _ATOM_FLAGS.items():
        columns[name] = (atoms[source].as_array(str) == "Y")[atom_order]
    columns["charge"] = atoms["charge"].as_array(int, masked_value=0)[atom_order].astype(np.int8)
    for name, sources in (("ideal", _IDEAL), ("model", _MODEL)):
        xyz = [atoms[source].as_array(float, masked_value=np.nan)[atom_order].astype(np.float32) for source in sources]
        columns[name] = np.stack(xyz, axis=1)
    columns |= _bond_columns(code, atom_row, columns, bonds)
    return columns


def _bond_columns(
    code: np.ndarray, atom_row: np.ndarray, columns: Mapping[str, np.ndarray], bonds: Mapping
) -> dict[str, np.ndarray]:
    """Bonds as indices within their component; the two ends are found by (component, atom name)."""
    row = np.searchsorted(code, bonds["comp_id"].as_array(str).astype("S5"))
    order = np.argsort(row, kind="stable")
    row = row[order]
    names, name_id = np.unique(columns["atom_name"], return_inverse=True)
    key = atom_row.astype(np.int64) * len(names) + name_id
    by_key = np.argsort(key, kind="stable")
    sorted_key = key[by_key]
    ends = []
    for source in ("atom_id_1", "atom_id_2"):
        name = bonds[source].as_array(str).astype("S4")[order]
        wanted = row * len(names) + np.minimum(np.searchsorted(names, name), len(names) - 1)
        place = np.minimum(np.searchsorted(sorted_key, wanted), len(key) - 1)
        found = (sorted_key[place] == wanted) & (columns["atom_name"][by_key[place]] == name)
        ends.append(np.where(found, by_key[place] - columns["atom_start"][row], -1))
    pair = np.stack(ends, axis=1)
    keep = (pair >= 0).all(axis=1)  # a bond to an atom that its component lacks is no bond
    kind = bonds["value_order"].as_array(str)[order]
    value = np.zeros(len(kind), np.int8)
    for text, number in BOND_ORDERS.items():
        value[kind == text] = number
    return {
        "bond_start": np.searchsorted(row[keep], np.arange(len(code) + 1)).astype(np.int64),
        "bond_atoms": pair[keep].astype(np.int16),
        "bond_order": value[keep],
        "bond_aromatic": (bonds["pdbx_aromatic_flag"].as_array(str) == "Y")[order][keep],
        "bond_stereo": bonds["pdbx_stereo_config"].as_array(str).astype("S1")[order][keep],
    }


def _plain(values: Iterable[str]) -> list[str]:
    return ["" if value in ("?", ".") else value for value in values]


def _packed_text(name: str, values: list[str]) -> dict[str, np.ndarray]:
    coded = [value.encode("utf-8") for value in values]
    starts = np.concatenate([[0], np.cumsum([len(value) for value in coded])]).astype(np.int64)
    return {f"{name}_text": np.frombuffer(b"".join(coded), np.uint8), f"{name}_start": starts}
