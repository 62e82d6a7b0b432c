"""Which symbols are followed: the largest by volume, without coming and going at the border."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

STAYS_WITHIN: Final = 1.1
"""A followed symbol stays while its rank is within so many times the size."""
ENTERS_WITHIN: Final = 0.9
"""A new one pushes the smallest out only from a rank within so many times the size."""


def choose(
    listed: Collection[str], quote_volume: Mapping[str, float], size: int, followed: Sequence[str] = ()
) -> tuple[str, ...]:
    """At most `size` of the listed symbols, largest first.

    quote_volume: of 24 h by symbol; one without counts as 0. followed: what was chosen last time.
    """
    ranked = sorted(listed, key=lambda symbol: (-quote_volume.get(symbol, 0.0), symbol))
    rank = {symbol: number for number, symbol in enumerate(ranked, 1)}
    members = {symbol for symbol in followed if rank.get(symbol, size * 2 + 1) <= size * STAYS_WITHIN}
    for symbol in ranked:
        if symbol in members:
            continue
        if len(members) >= size:
            smallest = max(members, key=rank.__getitem__)
            if rank[symbol] > size * ENTERS_WITHIN or rank[smallest] < rank[symbol]:
                break
            members.remove(smallest)
        members.add(symbol)
    return tuple(sorted(members, key=rank.__getitem__)[:size])


def assign(
    shards: Sequence[Sequence[str]], symbols: Sequence[str], per_connection: int
) -> list[tuple[str, ...]]:
    """The symbols of each connection, changing as few of the given shards as possible.

    What is followed no longer leaves its shard; what is new fills shards that have room, then new ones. A shard
    left without symbols stays in its place, empty.
    """
    wanted = set(symbols)
    kept = [[symbol for symbol in shard if symbol in wanted] for shard in shards]
    placed = {symbol for shard in kept for symbol in shard}
    new = [symbol for symbol in symbols if symbol not in placed]
    # those with least room first, so that most connections stay as they are
    for shard in sorted(kept, key=len, reverse=True):
        room = per_connection - len(shard)
        if room > 0 and new:
            shard += new[:room]
            new = new[room:]
    while new:
        kept.append(new[:per_connection])
        new = new[per_connection:]
    return [tuple(shard) for shard in kept]
