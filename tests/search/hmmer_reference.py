"""AlphaFold 3's calls of the HMMER programs and its reading of their results, written out for comparison."""

import re
import subprocess
from pathlib import Path

Rows = list[tuple[str, str]]  # header, a3m row; without the query's


def records(path: Path) -> list[tuple[str, str]]:
    """Headers and sequences of a FASTA file."""
    parts = (record.partition("\n") for record in path.read_text().split(">")[1:])
    return [(header, body.replace("\n", "")) for header, _, body in parts]


def stockholm(path: Path, limit: int) -> tuple[dict[str, str], dict[str, str]]:
    rows: dict[str, str] = {}
    descriptions: dict[str, str] = {}
    for line in path.read_text().splitlines():
        if line.startswith("#=GS"):
            parts = line.split(maxsplit=3)
            descriptions[parts[1]] = parts[3] if len(parts) > 3 else ""
        elif line and not line.startswith(("#", "//")):
            name, text = line.split()
            if name in rows or len(rows) < limit:
                rows[name] = rows.get(name, "") + text
    return rows, descriptions


def jackhmmer(query: str, database: Path, limit: int, folder: Path, z: int | None = None) -> Rows:
    (folder / "q.fasta").write_text(f">query\n{query}\n")
    command = "jackhmmer -o /dev/null -A {0}/o.sto --noali --F1 0.0005 --F2 5e-05 --F3 5e-07 --cpu 1 -N 1 -E 0.0001"
    command += " --incE 0.0001" + (f" -Z {z} --domZ {z}" if z else "") + " {0}/q.fasta {1}"
    subprocess.run(command.format(folder, database).split(), check=True)
    rows, descriptions = stockholm(folder / "o.sto", limit)
    first = next(iter(rows.values()))
    result = []
    for name, text in rows.items():
        letters = (
            letter if column not in "-." else letter.lower().replace("-", "")
            for column, letter in zip(first, text, strict=True)
        )
        result.append((f"{name} {descriptions.get(name, '')}".strip(), "".join(letters).replace(".", "")))
    return result[1:]


def nhmmer(query: str, database: Path, limit: int, folder: Path, z: float | None = None) -> Rows:
    (folder / "query.a3m").write_text(f">query\n{query}\n")
    (folder / "o.sto").touch()
    command = "nhmmer -o /dev/null --noali --cpu 1 -E 0.001" + (f" -Z {z}" if z else "") + " --rna -A {0}/o.sto --F3 "
    command += ("0.02" if len(query) < 50 else "1e-05") + " {0}/query.a3m {1}"
    subprocess.run(command.format(folder, database).split(), check=True)
    if not (folder / "o.sto").stat().st_size:
        return []
    rows, descriptions = stockholm(folder / "o.sto", limit - 1)
    plain = {name: re.sub("[-.]", "", text) for name, text in rows.items()}
    (folder / "rows").write_text("".join(f">{name} {descriptions.get(name, '')}\n{plain[name]}\n" for name in rows))
    subprocess.run(f"hmmbuild -o /dev/null --informat afa --rna {folder}/p {folder}/query.a3m".split(), check=True)
    subprocess.run(f"hmmalign -o {folder}/out --outformat A2M {folder}/p {folder}/rows".split(), check=True)
    return records(folder / "out")
