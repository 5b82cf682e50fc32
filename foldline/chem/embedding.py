"""The child process that embeds molecules with RDKit: one JSON request per line in, one reply per line out.

It stands alone (run as a script, it imports only RDKit and the standard library), because RDKit can hang or abort and
its process is then killed from outside.
"""

import array
import base64
import json
import signal
import sys
from typing import TextIO

from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom


def embed(molecule: bytes, seed: int, seconds: int, last_resort: bool) -> tuple[list[float], str] | None:
    """Coordinates x y z of every atom in Å, and the rung of the ladder that made them, or None.

    The rungs, each with `seconds` at most, are ETKDGv3, ETKDGv3 from random coordinates, and, as the last resort, plain
    distance geometry of the heavy atoms from random coordinates (hydrogens then lie at the origin): 250 heavy atoms
    embed in a second without their hydrogens and in no reasonable time with them.
    """
    mol = Chem.Mol(molecule)  # pyright: ignore[reportCallIssue, reportArgumentType]: RDKit's stubs lack the pickle form
    if _embedded(mol, seed, seconds, random=False):
        return _xyz(mol), "etkdg"
    if _embedded(mol, seed, seconds, random=True):
        return _xyz(mol), "etkdg-random"
    if not last_resort:
        return None
    heavy = Chem.RemoveAllHs(mol)
    if not _embedded(heavy, seed, seconds, random=True, knowledge=False):
        return None
    rows = iter(heavy.GetConformer().GetPositions().tolist())
    return [
        x for atom in mol.GetAtoms() for x in (next(rows) if atom.GetAtomicNum() > 1 else (0.0, 0.0, 0.0))
    ], "heavy-random"


def _embedded(mol: Chem.Mol, seed: int, seconds: int, *, random: bool, knowledge: bool = True) -> bool:
    params = rdDistGeom.ETKDGv3()
    params.randomSeed = seed
    params.timeout = seconds
    params.useRandomCoords = random
    if not knowledge:
        params.useExpTorsionAnglePrefs = False
        params.useBasicKnowledge = False
        params.ignoreSmoothingFailures = True
    try:
        return rdDistGeom.EmbedMolecule(mol, params) >= 0
    except (RuntimeError, ValueError):  # RDKit's own checks: bad bounds, missing parameters
        return False


def _xyz(mol: Chem.Mol) -> list[float]:
    return mol.GetConformer().GetPositions().ravel().tolist()


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answer requests until the input ends; the process ends itself where a request passes its limit."""
    rdBase.DisableLog("rdApp.*")
    for line in requests:
        request = json.loads(line)
        if hasattr(signal, "alarm"):
            signal.alarm(request["limit"])
        found = embed(
            base64.b64decode(request["molecule"]), request["seed"], request["seconds"], request["last_resort"]
        )
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        reply: dict[str, str] = {}
        if found is not None:
            xyz, reply["method"] = found
            reply["xyz"] = base64.b64encode(array.array("d", xyz).tobytes()).decode("ascii")
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
