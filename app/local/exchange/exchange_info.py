"""The answer of /fapi/v1/exchangeInfo."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from app.candles.batch import MINUTE_MS
from app.local.exchange.listings import TradedContracts
from app.local.exchange.market.market import Contract

_PERPETUAL_DELIVERY_MS: Final = 4_133_404_800_000
_ASSETS: Final = (("USDT", "-10000"), ("BTC", "-0.00100000"), ("BNB", "0"))


def exchange_info(listings: TradedContracts, now_ms: int, weight_per_minute: int) -> dict[str, object]:
    """Return the answer, with the USDT perpetuals of the market, and three contracts of other kinds that are never
    traded here."""
    minute = now_ms // MINUTE_MS
    symbols = [
        _entry(
            listings.contracts[number],
            status=listings.status(number, minute),
            onboard_ms=int(listings.first[number]) * MINUTE_MS,
        )
        for number in listings.listed()
    ]
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": [
            _limit("REQUEST_WEIGHT", "MINUTE", 1, weight_per_minute),
            _limit("ORDERS", "MINUTE", 1, 1200),
            _limit("ORDERS", "SECOND", 10, 300),
        ],
        "exchangeFilters": [],
        "assets": [
            {"asset": asset, "marginAvailable": True, "autoAssetExchange": exchange}
            for asset, exchange in _ASSETS
        ],
        "symbols": [*symbols, *_of_other_kinds(now_ms)],
    }


def _limit(kind: str, interval: str, number: int, limit: int) -> dict[str, object]:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}


def _of_other_kinds(now_ms: int) -> list[dict[str, object]]:
    """Return a quarterly contract, a perpetual quoted in another asset, and one on gold."""
    now = datetime.fromtimestamp(now_ms / 1000, UTC)
    quarter_end = datetime(now.year + (now.month + 2) // 12, (now.month + 2) // 3 * 3 % 12 + 1, 1, tzinfo=UTC)
    delivery = quarter_end - timedelta(days=1)
    onboard_ms = int((delivery - timedelta(days=180)).timestamp() * 1000)
    quarterly = _entry(Contract("BTCUSDT", 1, 3), status="TRADING", onboard_ms=onboard_ms) | {
        "symbol": f"BTCUSDT_{delivery:%y%m%d}",
        "contractType": "CURRENT_QUARTER",
        "deliveryDate": int(delivery.timestamp() * 1000),
    }
    other_quote = _entry(Contract("BTCUSDT", 1, 3), status="TRADING", onboard_ms=onboard_ms) | {
        "symbol": "BTCUSDC",
        "pair": "BTCUSDC",
        "quoteAsset": "USDC",
        "marginAsset": "USDC",
    }
    gold = _entry(Contract("XAUUSDT", 2, 3), status="TRADING", onboard_ms=onboard_ms) | {
        "contractType": "TRADIFI_PERPETUAL",
        "underlyingType": "COMMODITY",
    }
    return [quarterly, other_quote, gold]


def _entry(contract: Contract, *, status: str, onboard_ms: int) -> dict[str, object]:
    tick = f"{10.0**-contract.price_decimals:.{contract.price_decimals}f}"
    step = f"{10.0**-contract.quantity_decimals:.{contract.quantity_decimals}f}"
    return {
        "symbol": contract.symbol,
        "pair": contract.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": _PERPETUAL_DELIVERY_MS,
        "onboardDate": onboard_ms,
        "status": status,
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": contract.base_asset,
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": contract.price_decimals,
        "quantityPrecision": contract.quantity_decimals,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "settlePlan": 0,
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012000",
        "marketTakeBound": "0.30",
        "filters": [
            {"minPrice": tick, "maxPrice": "1000000", "filterType": "PRICE_FILTER", "tickSize": tick},
            {"stepSize": step, "filterType": "LOT_SIZE", "maxQty": "10000000", "minQty": step},
            {"stepSize": step, "filterType": "MARKET_LOT_SIZE", "maxQty": "10000000", "minQty": step},
            {"limit": 200, "filterType": "MAX_NUM_ORDERS"},
            {"limit": 10, "filterType": "MAX_NUM_ALGO_ORDERS"},
            {"notional": "5", "filterType": "MIN_NOTIONAL"},
            {
                "multiplierDown": "0.8500",
                "multiplierUp": "1.1500",
                "multiplierDecimal": "4",
                "filterType": "PERCENT_PRICE",
            },
        ],
        "orderTypes": [
            "LIMIT",
            "MARKET",
            "STOP",
            "STOP_MARKET",
            "TAKE_PROFIT",
            "TAKE_PROFIT_MARKET",
            "TRAILING_STOP_MARKET",
        ],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
    }
