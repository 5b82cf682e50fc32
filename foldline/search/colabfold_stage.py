"""Alignments from a ColabFold server, kept like all others, so that the server is asked once for each.

A chain's unpaired alignment is known by its sequence. The server pairs the rows of one complex, so paired alignments
are known by the set of a job's sequences. Nothing but sequences is sent. Knows chains and the cache; no HTTP.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from foldline.search.cache import Cache, key_of
from foldline.search.colabfold import MODE, PAIR_MODE, Server, Unsearchable
from foldline.search.rows import Alignment, alignment_of
from foldline.search.shard_queue import Say

SCHEMA = 1
BATCH = 10  # sequences of a ticket
MOST_AT_FAULT = 3  # sequences that fail alone before anything is found: the server is taken to be at fault
SHORTEST = 8  # residues; shorter sequences stay here, nothing could be significant


class ServerStage:
    """Asks a server for what the cache lacks. Thread-safe."""

    def __init__(self, server: Server, cache: Cache, say: Say, asked: list[tuple[str, str]]) -> None:
        """`asked` is told server and sequence of what is sent."""
        self.server, self.cache, self.say, self.asked = server, cache, say, asked

    def unpaired(self, sequences: Iterable[str]) -> dict[str, str]:
        """Keys of the unpaired alignments in the cache, by sequence; those that are lacking are asked for.

        A ticket that ends in an error is asked for again in halves, until the sequences at fault are known.

        Raises:
            Unsearchable: the server cannot search for some of them; the others are kept.
            SearchError: the server does not give them; those of earlier tickets are kept.
        """
        at_fault: list[str] = []
        keys = {one: self._key({"mode": MODE, "sequence": one}) for one in sequences}
        lacking = [one for one, key in keys.items() if not self.cache.is_whole(key)]
        for at in range(0, len(lacking), BATCH):
            some = sorted(lacking[at : at + BATCH], key=keys.__getitem__)
            with ExitStack() as locks:
                for one in some:
                    self._lock(keys[one], locks)
                some = [one for one in some if not self.cache.is_whole(keys[one])]
                at_fault += self._stored(some, keys)
        if at_fault:
            raise Unsearchable(self.server.name, at_fault)
        return keys

    def _stored(self, sequences: Sequence[str], keys: dict[str, str]) -> list[str]:
        """Store the unpaired alignments of a ticket's sequences; gives those that the server cannot search for.

        Raises:
            Unsearchable: it can search for none.
        """
        at_fault: list[str] = []
        left, found = [list(sequences)], False
        while left:
            some = left.pop()
            try:
                self._store(some, [keys[one] for one in some], "unpaired alignment")
                found = True
            except Unsearchable as error:
                if len(some) > 1:
                    self.say(f"the ColabFold server {self.server.name} fails: asking for halves of these sequences")
                    self.server.pause(self.server.pace.busy)
                    left += [some[len(some) // 2 :], some[: len(some) // 2]]
                    continue
                at_fault += some
                if len(at_fault) == MOST_AT_FAULT and not found:
                    raise Unsearchable(self.server.name, sequences) from error
        return at_fault

    def paired(self, sequences: Iterable[str]) -> dict[str, Path]:
        """The paired alignments of a job's sequences, the query alone where there is nothing to pair with.

        Raises:
            Unsearchable: the server cannot pair them.
            SearchError: the server does not give them.
        """
        unique = sorted(set(sequences))
        together = [one for one in unique if len(one) >= SHORTEST]
        if len(together) < 2:
            together = []
        whole = self._key({"mode": PAIR_MODE, "sequences": together})
        keys = {one: key_of({"of": whole if one in together else "alone", "sequence": one}) for one in unique}
        if not all(map(self.cache.is_whole, keys.values())):
            with ExitStack() as locks:
                self._lock(whole, locks)
                if not all(map(self.cache.is_whole, keys.values())):
                    alone = [one for one in unique if one not in together]
                    self._put(alone, [keys[one] for one in alone], map(alignment_of, alone), "paired alignment")
                    try:
                        self._store(together, [keys[one] for one in together], "paired alignment", tag=whole[:8])
                    except Unsearchable as error:
                        raise Unsearchable(self.server.name, unique, together=True) from error
        return {one: self.cache.path(key) for one, key in keys.items()}

    def _key(self, parts: dict[str, object]) -> str:
        return key_of({"schema": SCHEMA, "what": "colabfold", "server": self.server.name} | parts)

    def _lock(self, key: str, locks: ExitStack) -> None:
        """Hold the key's lock. Whoever needs several takes them in order, so that none waits for the other."""
        if not locks.enter_context(self.cache.locked(key, wait=False)):
            self.say(f"waiting for another process that asks {self.server.name} for the same chain")
            locks.enter_context(self.cache.locked(key))

    def _store(self, sequences: Sequence[str], keys: Sequence[str], what: str, tag: str = "") -> None:
        """Ask for alignments, paired ones where there is a tag, and store them."""
        sent = [one for one in sequences if len(one) >= SHORTEST]
        found: dict[str, Alignment] = {one: alignment_of(one) for one in sequences}
        if sent:
            kind = f"{what}s of {len(sent)} {'sequence' if len(sent) == 1 else 'sequences'}"
            self.say(f"asking the ColabFold server {self.server.name} for {kind}, which are sent to it")
            self.asked += [(self.server.name, one) for one in sent]
            answer = self.server.paired(sent, tag) if tag else self.server.unpaired(sent)
            found |= dict(zip(sent, answer, strict=True))
        self._put(sequences, keys, (found[one] for one in sequences), what)

    def _put(self, sequences: Sequence[str], keys: Sequence[str], found: Iterable[Alignment], what: str) -> None:
        for one, key, alignment in zip(sequences, keys, found, strict=True):
            about = {"what": what, "kind": "protein", "sequence": one, "rows": len(alignment.rows)}
            self.cache.put(key, alignment.a3m(), about | {"tool": f"colabfold {self.server.name}"})
