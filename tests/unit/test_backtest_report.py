"""The report of a backtest: as JSON and as a page."""

from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from app.backtest.backtest import Backtest
from app.backtest.compare import AlertComparison
from app.backtest.forward import ForwardReturns
from app.backtest.report import Report
from app.backtest.report_page import render
from app.backtest.report_page.plots import ticks
from app.backtest.tally import NEWEST
from app.candles.batch import MINUTE_MS
from app.rules.evaluation.rulebook import RuleBook
from app.rules.rule import Rule
from tests.support.candle_history import START_MS, candles

RISING = Rule("rising", "price_change_1m > 1", "high", cooldown_s=0, description="<b>It rises & rises</b>")
UNKNOWN = Rule("unknown", "price_change_1d > 1", "high")


class Elements(HTMLParser):
    """Counts elements, and fails on any that is closed out of order."""

    VOID = ("meta", "rect", "line", "path")

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


def play(*rules: Rule, minutes: int = 400, start: int = 0) -> tuple[Backtest, ForwardReturns]:
    backtest, returns = Backtest(RuleBook.compile(rules, "close")), ForwardReturns()
    returns.take(backtest.feed(candles([100 + (at % 7) ** 2 for at in range(minutes)], start=start)))
    return backtest, returns


def played(*rules: Rule) -> Report:
    return Report.of(*play(*rules), "close")


def test_a_report_is_json_with_what_was_played_and_found():
    backtest, returns = play(RISING, UNKNOWN)
    report = Report.of(backtest, returns, "close")
    found = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert (found["candles"], found["symbols"], found["mode"]) == (400, 1, "close")
    assert (found["from"], found["to"]) == ("2021-04-17T00:00:00.000Z", "2021-04-17T06:39:00.000Z")
    assert found["alerts"] == len(backtest.entries) > 100
    assert found["could_not_fire"] == ["unknown"]
    assert [rule["rule_type"] for rule in found["rules"]] == ["rising"]
    assert set(found["rules"][0]["after"]) == {"5m", "15m", "1h", "4h"}
    [month] = found["rules"][0]["months"]
    assert (month["month"], month["fires"]) == ("2021-04", found["alerts"])


def test_a_page_shows_every_rule_with_its_plots_and_escapes_what_users_wrote():
    page = render(played(RISING, UNKNOWN), "Rules & <history>")
    elements = Elements(page)
    assert elements.open == []
    assert elements.counts["section"] == 1
    assert elements.counts["svg"] == 3
    assert "<b>" not in page
    assert any("It rises & rises" in words for words in elements.words)
    assert any("because history or metrics are missing: unknown" in words for words in elements.words)
    assert "http" not in page


def test_plots_have_a_legend_and_values_at_their_axes():
    report = played(RISING)
    [outcome] = report.outcomes
    words = Elements(render(report)).words
    assert {"after 5m", "after 15m", "after 1h", "after 4h", "alerts", "random entries"} <= set(words)
    assert {"2021-04-17 00:00", "2021-04-17 02:13", "2021-04-17 06:39"} <= set(words)
    sums = [stretch.sum_pct[0] for stretch in outcome.stretches]
    assert sum(sums) == pytest.approx(outcome.outcomes[0].alerts.mean_pct * outcome.outcomes[0].known)
    assert sum(word.endswith(" %") for word in words) > 12


def test_the_last_alerts_of_a_rule_are_listed_with_their_returns_and_the_others_counted():
    report = played(RISING)
    [outcome] = report.outcomes
    page = render(report)
    words = Elements(page).words
    assert len(outcome.newest) == NEWEST < outcome.fires
    assert f"The last {NEWEST:,} of {outcome.fires:,} alerts" in words
    newest = outcome.newest[-1]
    assert words.index("2021-04-17 06:38") < words.index("2021-04-17 06:37")
    assert newest.entry.open_time_ms == START_MS + 398 * MINUTE_MS
    assert newest.price == 136
    assert all(np.isnan(newest.returns_pct))


def test_a_page_has_a_row_for_each_calendar_month():
    words = Elements(render(Report.of(*play(RISING, start=14 * 1440 - 100), "close"))).words
    assert "By month" in words
    assert {"2021-04", "2021-05"} <= set(words)


def test_a_page_is_readable_on_paper():
    page = render(played(RISING))
    style = page[page.index("@media print") :]
    assert "max-height: none" in style
    assert "break-inside: avoid" in style
    assert "color-scheme: light" in style


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (-1.2, 1.2, [-1, -0.5, 0, 0.5, 1]),
        (-490, 560, [-400, -200, 0, 200, 400]),
        (0, 0, [0]),
        (-3e-5, 0, [-3e-5, -2e-5, -1e-5, 0]),
    ],
)
def test_values_at_an_axis_are_round_and_within_it(low, high, expected):
    assert ticks(low, high) == expected


def test_a_page_with_a_comparison_counts_what_changed():
    stricter = replace(RISING, expression="price_change_1m > 5")
    (before, _), (after, returns) = play(RISING), play(stricter)
    comparison = AlertComparison()
    comparison.take(before.entries, after.entries)
    report = Report.of(after, returns, "close", comparison)
    assert report.as_dict()["compared"]["rising"]["removed"] > 0
    elements = Elements(render(report))
    assert elements.counts["section"] == 2
    assert "Effect of the other rules" in elements.words


def test_a_backtest_without_alerts_or_candles_has_a_report():
    quiet, returns = Backtest(RuleBook.compile([RISING], "close")), ForwardReturns()
    for closes in ([], [100.0, 100.0]):
        returns.take(quiet.feed(candles(closes)))
        report = Report.of(quiet, returns, "close")
        assert Elements(render(report)).open == []
        assert report.as_dict()["alerts"] == 0
