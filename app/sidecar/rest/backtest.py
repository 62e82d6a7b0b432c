"""GET /api/backtest: a rule, stored or not, tried on the last hours of the stored minutes."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import orjson
from aiohttp import web

from app.candles.batch import MINUTE_MS
from app.candles.symbols import is_symbol
from app.clock import Clock
from app.database.candles.minutes import stored_symbols
from app.market.fields import COLUMN_POSITION
from app.rules.rule import MAX_COOLDOWN_S, MAX_HOLD_S, Rule
from app.sidecar.http.parameters import Parameters
from app.sidecar.http.problems import RequestError, bad_parameter, missing_parameter, unavailable
from app.sidecar.http.responses import private_json
from app.sidecar.rest.language import faults_json
from app.sidecar.state.database import Database, HistoryUnavailable
from app.sidecar.state.latest import LatestMetrics
from app.sidecar.trials.request import TrialRequest
from app.sidecar.trials.runner import TrialFailed, TrialRunner, TrialsBusy
from app.times import rfc3339

DEFAULT_HOURS: Final = 24
MOST_HOURS: Final = 168
MOST_SYMBOLS: Final = 2_000
BUDGET_MS: Final = 1_500
"""For loading and evaluation; the answer comes within two seconds."""
_TURNOVER: Final = COLUMN_POSITION["quote_volume_1d"]


class BacktestEndpoint:
    """Tries the symbols with most turnover first, so that a trial that reaches its time limit has covered them."""

    def __init__(self, database: Database, latest: LatestMetrics, trials: TrialRunner, clock: Clock) -> None:
        self._database = database
        self._latest = latest
        self._trials = trials
        self._clock = clock

    async def get(self, request: web.Request) -> web.Response:
        """Answer 200 with the faults of an expression that does not compile; nothing is tried then."""
        parameters = Parameters(request.query, ("expression", "cooldown_s", "hold_s", "symbol", "hours"))
        hours = parameters.whole_number("hours", least=1, most=MOST_HOURS) or DEFAULT_HOURS
        chosen = parameters.words("symbol", is_symbol, "a symbol such as BTCUSDT")
        cooldown_s = parameters.whole_number("cooldown_s", least=0, most=MAX_COOLDOWN_S)
        hold_s = parameters.whole_number("hold_s", least=0, most=MAX_HOLD_S)
        expression = parameters.text("expression")
        if expression is None:
            raise missing_parameter("expression")
        if faults := faults_json(expression, "rule"):
            return private_json(orjson.dumps({"faults": faults, "result": None}))
        rule = Rule("backtest", expression, "info", mode="close", hold_s=hold_s or 0)
        rule = rule if cooldown_s is None else replace(rule, cooldown_s=cooldown_s)
        if rule.looks_at_market:
            raise bad_parameter(
                "expression", "looks at all symbols, which are not tried here: use `screener backtest`"
            )
        until_ms = self._now_ms() // MINUTE_MS * MINUTE_MS
        since_ms = until_ms - hours * 60 * MINUTE_MS
        began_ms = self._clock.now_ms()
        try:
            known = await self._symbols()
            symbols = [symbol for symbol in known if symbol in chosen] if chosen else known[:MOST_SYMBOLS]
            found = await self._trials.try_rule(
                TrialRequest(rule, tuple(symbols), since_ms, until_ms, BUDGET_MS)
            )
        except HistoryUnavailable:
            raise unavailable("the stored candles") from None
        except TrialsBusy as error:
            raise RequestError(503, "busy", str(error), {"Retry-After": "2"}) from None
        except TrialFailed as error:
            raise RequestError(500, "trial_failed", str(error)) from None
        result = {
            **found,
            "of": len(symbols),
            "complete": found["tried"] >= len(symbols),
            "since": rfc3339(since_ms),
            "until": rfc3339(until_ms),
            "took_ms": max(0, self._clock.now_ms() - began_ms),
        }
        return private_json(orjson.dumps({"faults": [], "result": result}))

    def _now_ms(self) -> int:
        """Return the market's time, which in a replay is not the clock's."""
        return self._latest.newest_event_ts_ms or self._clock.now_ms()

    async def _symbols(self) -> list[str]:
        """Return all symbols with stored minutes, by turnover of the last day, unknown ones last."""
        async with self._database.connection("stored_symbols") as connection:
            stored = await stored_symbols(connection, self._database.metrics)
        market = self._latest.market(0)
        turnover = dict(zip(market.symbols, np.nan_to_num(market.values[:, _TURNOVER]).tolist(), strict=True))
        return sorted(stored, key=lambda symbol: (-turnover.get(symbol, -1.0), symbol))
