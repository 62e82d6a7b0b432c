"""The requests of the REST benchmark: the ones that dashboards and bots send again and again."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from urllib.parse import quote

QUERIES = (
    "price_change_1h > 2 and rsi_14_15m < 70",
    "volume_ratio_5m > 3 and price_change_5m > 0.5",
    "rank(volume_1h) <= 20 and price_change_1d < 0",
)
RULES = ("futures_pioneer_bull", "futures_big_bear_60", "futures_top_hunter")
WEIGHTS = {
    "metrics of a symbol": 36,
    "metrics, unchanged (304)": 10,
    "metrics of ten symbols": 5,
    "tickers": 10,
    "screener": 10,
    "klines (SQL)": 10,
    "alerts (SQL)": 10,
    "symbols": 3,
    "rules (SQL)": 3,
    "explain (SQL)": 3,
}
"""Percent of the requests. SQL: each one needs at least one database query."""


@dataclass(frozen=True)
class Request:
    kind: str
    path: str

    @property
    def conditional(self) -> bool:
        """Whether the client sends the last ETag that it received for this path."""
        return self.kind == "metrics, unchanged (304)"

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def mix(symbols: list[str], count: int, seed: int = 1) -> list[Request]:
    draw = random.Random(seed)
    kinds = draw.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)
    return [Request(kind, _path(kind, symbols, draw)) for kind in kinds]


def _path(kind: str, symbols: list[str], draw: random.Random) -> str:
    symbol = draw.choice(symbols)
    some = ",".join(draw.sample(symbols[:50], 10))
    return {
        "metrics of a symbol": f"/api/metrics/{symbol}",
        "metrics, unchanged (304)": f"/api/metrics/{symbol}",
        "metrics of ten symbols": f"/api/metrics?symbol={some}&timeframe=5m,1h",
        "tickers": f"/api/tickers?symbols={some}",
        "screener": f"/api/screener?where={quote(draw.choice(QUERIES))}&sort=volume_1h&limit=20",
        "klines (SQL)": f"/api/klines?symbol={symbol}&interval={draw.choice(('1m', '5m', '15m', '1h'))}&limit=100",
        "alerts (SQL)": f"/api/alerts?symbol={symbol}&limit=20",
        "symbols": "/api/symbols",
        "rules (SQL)": "/api/rules",
        "explain (SQL)": f"/api/explain?symbol={symbol}&rule={draw.choice(RULES)}",
    }[kind]
