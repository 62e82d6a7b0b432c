"""Prints, for each candle file given, the expected alerts by rule and the close calls."""

from __future__ import annotations

import sys
from collections import Counter

from tests.oracle.alerts import close_calls, close_mode_alerts_of, read_columns
from tests.oracle.rules import RULES


def main() -> None:
    for path in sys.argv[1:]:
        columns = read_columns(path)
        alerts = close_mode_alerts_of(columns)
        by_rule = Counter(rule_type for rule_type, _, _ in alerts)
        print(f"{path}: {len(columns['symbol'])} candles, {len(alerts)} alerts")
        for rule_type in RULES:
            print(f"  {rule_type:24}{by_rule[rule_type]:8}")
        calls = close_calls(columns)
        unequal = [call for call in calls if call[3] != call[4]]
        print(
            f"  decisions on equal values: {len(calls) - len(unequal)}, on nearly equal ones: {len(unequal)}"
        )
        for call in unequal:
            print("   ", *call)


if __name__ == "__main__":
    main()
