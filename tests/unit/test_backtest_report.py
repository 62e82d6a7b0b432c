"""The report of a backtest: as JSON and as a page."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

from app.backtest.compare import compare
from app.backtest.page import render
from app.backtest.report import Report
from app.backtest.run import Backtest
from app.rules.rule import Rule
from app.rules.rulebook import RuleBook
from tests.support.candle_history import candles

RISING = Rule("rising", "price_change_1m > 1", "high", cooldown_s=0, description="<b>It rises & rises</b>")
UNKNOWN = Rule("unknown", "price_change_1d > 1", "high")


class Elements(HTMLParser):
    """Counts elements, and fails on any that is closed out of order."""

    VOID = ("meta", "rect", "line")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def played(*rules: Rule) -> Backtest:
    backtest = Backtest(RuleBook.compile(rules, "close"))
    backtest.feed(candles([100 + (at % 7) ** 2 for at in range(400)]))
    return backtest


def test_a_report_is_json_with_what_was_played_and_found():
    backtest = played(RISING, UNKNOWN)
    report = Report.of(backtest, "close")
    found = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert (found["candles"], found["symbols"], found["mode"]) == (400, 1, "close")
    assert (found["from"], found["to"]) == ("2021-04-17T00:00:00.000Z", "2021-04-17T06:39:00.000Z")
    assert found["alerts"] == len(backtest.entries) > 100
    assert found["could_not_fire"] == ["unknown"]
    assert [rule["rule_type"] for rule in found["rules"]] == ["rising"]
    assert set(found["rules"][0]["after"]) == {"5m", "15m", "1h", "4h"}


def test_a_page_shows_every_rule_with_its_plots_and_escapes_what_users_wrote():
    page = render(Report.of(played(RISING, UNKNOWN), "close"), "Rules & <history>")
    elements = Elements(page)
    assert elements.open == []
    assert elements.counts["section"] == 1
    assert elements.counts["svg"] == 2
    assert "<b>" not in page
    assert any("It rises & rises" in words for words in elements.words)
    assert any("for want of history or metrics: unknown" in words for words in elements.words)
    assert "http" not in page


def test_a_page_with_a_comparison_counts_what_changed():
    stricter = replace(RISING, expression="price_change_1m > 5")
    report = Report.of(after := played(stricter), "close", compare(played(RISING).entries, after.entries))
    assert report.as_dict()["compared"]["rising"]["removed"] > 0
    elements = Elements(render(report))
    assert elements.counts["section"] == 2
    assert "What the other rules would change" in elements.words


def test_a_backtest_without_alerts_or_candles_has_a_report():
    quiet = Backtest(RuleBook.compile([RISING], "close"))
    for report in (Report.of(quiet, "close"), _fed(quiet)):
        assert Elements(render(report)).open == []
        assert report.as_dict()["alerts"] == 0


def _fed(backtest: Backtest) -> Report:
    backtest.feed(candles([100.0, 100.0]))
    return Report.of(backtest, "close")
