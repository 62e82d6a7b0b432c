"""Random expressions with every construct of the grammar, and texts that are almost expressions."""

from __future__ import annotations

import random

COLUMNS = (
    "price_change_5m",
    "volume_5m",
    "price",
    "high",
    "rsi_14_15m",
    "bubble_side_5m",
    "vwap_day",
)
_LITERALS = (
    "0",
    "1",
    "2",
    ".5",
    "1.5",
    "250",
    "3k",
    "2K",
    "1M",
    "1_000",
    "1e3",
    "2.5e-3",
    "1e308",
    "7E+1",
    "0.0",
)
_HOSTILE = (
    "",
    "(",
    ")",
    ",",
    "and",
    "or",
    "not",
    ">",
    "=",
    "&&",
    "\0",
    "\ud800",
    "٣",
    "  ",
    "1e999",
    "5m",
    "-",
    "%",
)


class Expressions:
    """Makes random expressions. `query`: with functions over all symbols, and without those that look a minute back."""

    def __init__(self, rng: random.Random, query: bool = False) -> None:
        self._rng = rng
        self._query = query

    def condition(self, depth: int = 3, back: int = 4) -> str:
        rng = self._rng
        kind = rng.random()
        if depth == 0 or kind < 0.4:
            return self._compared(depth, back)
        if kind < 0.55 and back and not self._query:
            name = rng.choice(("crosses_above", "crosses_below"))
            return f"{name}({self.number(depth - 1, back - 1)}, {self.number(depth - 1, back - 1)})"
        if kind < 0.65:
            return f"{rng.choice(('not', 'NOT', 'Not'))} ({self.condition(depth - 1, back)})"
        if kind < 0.7:
            return f"({self.condition(depth - 1, back)})"
        word = rng.choice((" and ", " or ", " AND ", "\nor\t"))
        parts = [self.condition(depth - 1, back) for _ in range(rng.randint(2, 3))]
        bare = rng.random() < 0.4
        return word.join(part if bare else f"({part})" for part in parts)

    def _compared(self, depth: int, back: int) -> str:
        space = self._rng.choice(("", " ", "  "))
        operator = self._rng.choice((">", ">=", "<", "<=", "==", "!="))
        return f"{self.number(depth, back)}{space}{operator}{space}{self.number(depth, back)}"

    def number(self, depth: int = 2, back: int = 4) -> str:
        rng = self._rng
        kind = rng.random()
        if depth <= 0 or kind < 0.35:
            return rng.choice(COLUMNS) if rng.random() < 0.65 else rng.choice(_LITERALS)
        if kind < 0.55:
            left, right = self.number(depth - 1, back), self.number(depth - 1, back)
            operator = rng.choice("+-*/")
            return f"{left} {operator} {right}" if rng.random() < 0.5 else f"({left} {operator} {right})"
        if kind < 0.65:
            return (
                f"-{self.number(depth - 1, back)}"
                if rng.random() < 0.5
                else f"-({self.number(depth - 1, back)})"
            )
        if kind < 0.75:
            return f"abs({self.number(depth - 1, back)})"
        if kind < 0.85:
            parts = [self.number(depth - 1, back) for _ in range(rng.randint(2, 3))]
            return f"{rng.choice(('min', 'max'))}({', '.join(parts)})"
        if self._query:
            return self._over_all(depth - 1, back)
        return f"prev({self.number(depth - 1, back - 1)})" if back else rng.choice(COLUMNS)

    def _over_all(self, depth: int, back: int) -> str:
        kind = self._rng.choice(("rank", "pct_rank", "mean", "median", "share", "of"))
        if kind == "share":
            return f"share({self.condition(depth, back)})"
        symbol = f"S{self._rng.randint(0, 3)}USDT, " if kind == "of" else ""
        return f"{kind}({symbol}{self.number(depth, back)})"


def mutated(rng: random.Random, text: str) -> str:
    """Return the text with a few characters or words inserted, left out, doubled or swapped."""
    for _ in range(rng.randint(1, 2)):
        at, to = sorted((rng.randint(0, len(text)), rng.randint(0, len(text))))
        kind = rng.random()
        if kind < 0.3:
            text = text[:at] + rng.choice(_HOSTILE) + text[at:]
        elif kind < 0.5:
            text = text[:at] + text[to:]
        elif kind < 0.6:
            text = text[:at] + text[at:to] * rng.randint(2, 40) + text[to:]
        elif kind < 0.8:
            text = text[:at] + chr(rng.randint(0, 0x2FFF)) + text[at + 1 :]
        else:
            text = text[to:] + text[at:to] + text[:at]
    return text
