"""The child process that embeds molecules with RDKit: one JSON request per line in, one reply per line out.

It stands alone (run as a script, it imports only RDKit and the standard library), because RDKit can hang or abort and
its process is then killed from outside.
"""

import array
import base64
import json
import signal
import sys
import time
from typing import TextIO

from rdkit import Chem, rdBase
from rdkit.Chem import rdDistGeom


def embed(molecule: bytes, method: str, seed: int, seconds: int) -> list[float]:
    """Coordinates x y z of every atom in Å, or none; RDKit itself gives up after about `seconds`.

    Methods: "etkdg" (ETKDGv3), "etkdg-random" (from random coordinates) and "heavy-random", plain distance geometry of
    the heavy atoms alone (hydrogens then lie at the origin): 250 heavy atoms embed in a second without their hydrogens
    and in no reasonable time with them.
    """
    mol = Chem.Mol(molecule)  # pyright: ignore[reportCallIssue, reportArgumentType]: RDKit's stubs lack the pickle form
    part = Chem.RemoveAllHs(mol) if method == "heavy-random" else mol
    params = rdDistGeom.ETKDGv3()
    params.randomSeed = seed
    params.timeout = seconds
    params.useRandomCoords = method != "etkdg"
    if part is not mol:
        params.useExpTorsionAnglePrefs = False
        params.useBasicKnowledge = False
        params.ignoreSmoothingFailures = True
    try:
        if rdDistGeom.EmbedMolecule(part, params) < 0:
            return []
    except (RuntimeError, ValueError):  # RDKit's own checks: bad bounds, missing parameters
        return []
    rows = iter(part.GetConformer().GetPositions().tolist())
    here = [part is mol or atom.GetAtomicNum() > 1 for atom in mol.GetAtoms()]
    return [x for keep in here for x in (next(rows) if keep else (0.0, 0.0, 0.0))]


def serve(requests: TextIO, replies: TextIO) -> None:
    """Answer requests until the input ends; the process ends itself where a request passes its limit."""
    for number in (signal.SIGINT, signal.SIGTERM):  # sent to all processes of a job; the parent decides
        signal.signal(number, signal.SIG_IGN)
    rdBase.DisableLog("rdApp.*")
    for line in requests:
        request = json.loads(line)
        if hasattr(signal, "alarm"):
            signal.alarm(request["limit"])
        before = time.process_time()
        xyz = embed(base64.b64decode(request["molecule"]), request["method"], request["seed"], request["seconds"])
        if hasattr(signal, "alarm"):
            signal.alarm(0)
        packed = base64.b64encode(array.array("d", xyz).tobytes()).decode("ascii")
        used = time.process_time() - before
        replies.write(json.dumps({"xyz": packed, "processor_seconds": used}) + "\n")
        replies.flush()


if __name__ == "__main__":
    serve(sys.stdin, sys.stdout)
