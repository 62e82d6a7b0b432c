"""Which clients are given which alerts, against a look at every client and every alert."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from app.sidecar.live.alert_groups import AlertGroups, Wanted
from app.sidecar.live.alert_log import LoggedAlert
from app.sidecar.live.frames import FrameBlock
from app.sidecar.live.server_messages import alert_frame, plain_alert_frame
from app.telemetry import sidecar_metrics

SYMBOLS, RULES, SEVERITIES = ("A", "B", "C"), ("r", "s"), ("high", "low")
METRICS = sidecar_metrics(CollectorRegistry())


class Taker:
    """Stands for a client that takes everything."""

    def __init__(self) -> None:
        self.data = b""

    def offer(self, block: FrameBlock) -> bool:
        self.data += block.data
        return True


def some(items: tuple[str, ...]) -> st.SearchStrategy[frozenset[str] | None]:
    return st.none() | st.frozensets(st.sampled_from(items), min_size=1)


PAIRS = st.frozensets(st.tuples(st.sampled_from([*RULES, "*"]), st.sampled_from([*SYMBOLS, "*"])))
WANTED = st.builds(Wanted, some(SYMBOLS), some(RULES), some(SEVERITIES), st.none() | PAIRS)
ALERTS = st.lists(
    st.tuples(st.sampled_from(SYMBOLS), st.sampled_from(RULES), st.sampled_from(SEVERITIES)), max_size=20
)
FORMS = st.sampled_from([plain_alert_frame, alert_frame])


def _wants(want: Wanted, alert: LoggedAlert) -> bool:
    """Said in other words than the code's."""
    lists = ((want.symbols, alert.symbol), (want.rules, alert.rule_type), (want.severities, alert.severity))
    if any(items is not None and value not in items for items, value in lists):
        return False
    return want.selection is None or any(
        rule in ("*", alert.rule_type) and symbol in ("*", alert.symbol) for rule, symbol in want.selection
    )


@given(st.lists(st.tuples(WANTED, FORMS), max_size=8), st.lists(st.tuples(st.integers(0, 7), WANTED)), ALERTS)
def test_each_client_gets_the_alerts_it_wants_in_order_whatever_it_wanted_before(clients, changes, fields):
    groups = AlertGroups(METRICS, block_bytes=200)
    wanted = {}
    for want, form in clients:
        taker = Taker()
        groups.add(taker, form, want)
        wanted[taker] = (want, form)
    for position, want in changes:
        if position >= len(clients):
            continue
        taker = list(wanted)[position]
        if position % 3 == 2:
            groups.discard(taker)
            wanted[taker] = (None, None)
        else:
            groups.add(taker, alert_frame, want)
            wanted[taker] = (want, alert_frame)
    alerts = [LoggedAlert(seq, f"id{seq}", *field, b'{"n":%d}' % seq) for seq, field in enumerate(fields)]
    groups.broadcast(alerts)
    for taker, (want, form) in wanted.items():
        expected = [form(alert) for alert in alerts if want is not None and _wants(want, alert)]
        assert taker.data == b"".join(expected)
    for taker in wanted:
        groups.discard(taker)
    assert (len(groups), groups._groups, dict(groups._by_symbol), groups._every_symbol) == (0, {}, {}, set())


def test_an_alert_is_framed_once_for_all_who_get_it_in_one_form():
    framed = []

    def frame(alert: LoggedAlert) -> bytes:
        framed.append(alert.seq)
        return b"frame"

    groups = AlertGroups(METRICS, block_bytes=1_000)
    takers = [Taker() for _ in range(50)]
    for n, taker in enumerate(takers):
        groups.add(taker, frame, Wanted(symbols=frozenset(SYMBOLS[: n % 3 + 1])))
    groups.broadcast(
        [LoggedAlert(7, "id", "A", "r", "high", b"{}"), LoggedAlert(8, "id2", "A", "r", "low", b"{}")]
    )
    assert framed == [7, 8]
    assert all(taker.data == b"frameframe" for taker in takers)
