"""Limit on different choices of fields: each choice is encoded separately."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Sequence


class TooManyFieldSets(Exception):
    """`owner`: the owner at its limit; None if the total is at its limit."""

    def __init__(self, owner: str | None, most: int) -> None:
        super().__init__(owner, most)
        self.owner = owner
        self.most = most


class FieldSets:
    """Counts the different choices in use, in all and of each owner (an address, a user). Equal ones count once."""

    def __init__(self, most: int, most_per_owner: int) -> None:
        self._most = most
        self._most_per_owner = most_per_owner
        self._in_use: Counter[Hashable] = Counter()
        self._of_owner: dict[str, Counter[Hashable]] = {}

    def __len__(self) -> int:
        return len(self._in_use)

    def take(self, choice: Hashable, owners: Sequence[str]) -> Callable[[], None]:
        """Count one more use of `choice`, until the returned function is called. Raises TooManyFieldSets."""
        for owner in owners:
            used = self._of_owner.get(owner, Counter())
            if choice not in used and len(used) >= self._most_per_owner:
                raise TooManyFieldSets(owner, self._most_per_owner)
        if choice not in self._in_use and len(self._in_use) >= self._most:
            raise TooManyFieldSets(None, self._most)
        self._in_use[choice] += 1
        for owner in owners:
            self._of_owner.setdefault(owner, Counter())[choice] += 1

        def release() -> None:
            _drop(self._in_use, choice)
            for owner in owners:
                _drop(self._of_owner[owner], choice)
                if not self._of_owner[owner]:
                    del self._of_owner[owner]

        return release


def _drop(counter: Counter[Hashable], choice: Hashable) -> None:
    counter[choice] -= 1
    if not counter[choice]:
        del counter[choice]
