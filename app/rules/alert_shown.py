"""The JSON of an alert as clients see it, straight from its record in [alerts].

At a market's close the sidecar reads hundreds of records before a client gets the first of them. As an alert that
this version writes has its fields in one order, a look at their names and types is enough, and its JSON can be
completed in place. This takes a third of the time of `Alert.decode`, which reads any other record.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from app.rules.alert import Alert
from app.rules.alert_faults import has_nul, parsed, value_fault

_OWN: Final[dict[str, type]] = {
    "id": str,
    "symbol": str,
    "rule_type": str,
    "rule_version": int,
    "severity": str,
    "description": str,
    "timestamp": str,
    "price": float,
    "metadata": dict,
    "timings": dict,
    "backfilled": bool,
}
_NAMES: Final = tuple(_OWN)
_TYPES: Final = tuple(_OWN.values())
_TIMES: Final = ("exchange_ts_ms", "ingest_ts_ms", "evaluate_ts_ms", "publish_ts_ms")
_TIME_TYPES: Final = (int,) * len(_TIMES)


def shown(data: bytes, seq: int, deliver_ts_ms: int) -> tuple[dict[str, Any], bytes]:
    """Return the JSON object of a record as clients who get it at that time (UTC ms) see it, and its text.

    The same as `Alert.decode(data, seq).delivered(deliver_ts_ms).as_dict()`; raises BadInput as that does.
    """
    document = parsed(data, seq)
    if _is_own(document) and value_fault(document) is None and not has_nul(data):
        document["timings"]["deliver_ts_ms"] = deliver_ts_ms
        found = {"id": document["id"], "seq": seq} | document
        try:
            return found, orjson.dumps(found)
        except orjson.JSONEncodeError:
            pass  # metadata nested deeper than JSON is written: the other way says so
    found = Alert.decode(data, seq).delivered(deliver_ts_ms).as_dict()
    return found, orjson.dumps(found)


def _is_own(document: Any) -> bool:
    """Return whether the document has exactly the fields and types of an alert of this version that is not a shadow
    rule's."""
    if (
        type(document) is not dict
        or tuple(document) != _NAMES
        or tuple(map(type, document.values())) != _TYPES
    ):
        return False
    timings = document["timings"]
    return tuple(timings) == _TIMES and tuple(map(type, timings.values())) == _TIME_TYPES
