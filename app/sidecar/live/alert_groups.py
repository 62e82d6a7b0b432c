"""The clients that receive new alerts, grouped by their filters, so that no work is done per client."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from app.sidecar.live.alert_log import LoggedAlert
from app.sidecar.live.frames import blocks
from app.sidecar.live.receivers import Receiver, end_failed
from app.telemetry import SidecarMetrics

AlertFrame = Callable[[LoggedAlert], bytes]
"""Frames an alert in the form of one endpoint."""


Selection = frozenset[tuple[str, str]]
"""Pairs of rule and symbol, `*` for any; an alert that fits one of them is selected."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The alerts a client wants: they pass every filter; None does not filter. backfilled: also alerts
    about a time long past. No client gets an alert of a shadow rule."""

    symbols: frozenset[str] | None = None
    rules: frozenset[str] | None = None
    severities: frozenset[str] | None = None
    selection: Selection | None = None
    backfilled: bool = False

    def includes(self, alert: LoggedAlert) -> bool:
        return (
            not alert.shadow
            and (self.backfilled or not alert.backfilled)
            and (self.symbols is None or alert.symbol in self.symbols)
            and (self.rules is None or alert.rule_type in self.rules)
            and (self.severities is None or alert.severity in self.severities)
            and (self.selection is None or _selects(self.selection, alert))
        )


def _selects(selection: Selection, alert: LoggedAlert) -> bool:
    rules, symbols = (alert.rule_type, "*"), (alert.symbol, "*")
    return any((rule, symbol) in selection for rule in rules for symbol in symbols)


EVERY_NEW_ALERT = Wanted()


@dataclass(slots=True, eq=False)
class _AlertGroup:
    frame: AlertFrame
    wanted: Wanted
    receivers: set[Receiver] = field(default_factory=set)


class AlertGroups:
    """Clients grouped by endpoint and filters. An alert costs one framing per endpoint, one check of each group that
    wants its symbol, and one write per client that gets it."""

    def __init__(self, metrics: SidecarMetrics, block_bytes: int) -> None:
        self._metrics = metrics
        self._block_bytes = block_bytes
        self._groups: dict[tuple[AlertFrame, Wanted], _AlertGroup] = {}
        self._of: dict[Receiver, _AlertGroup] = {}
        self._every_symbol: set[_AlertGroup] = set()
        self._by_symbol: defaultdict[str, set[_AlertGroup]] = defaultdict(set)

    def __len__(self) -> int:
        """Return how many clients get new alerts."""
        return len(self._of)

    def __iter__(self) -> Iterator[Receiver]:
        return iter(tuple(self._of))

    def add(self, receiver: Receiver, frame: AlertFrame, wanted: Wanted = EVERY_NEW_ALERT) -> None:
        """Set the client's selection from now on; it replaces the earlier one."""
        self.discard(receiver)
        group = self._groups.get((frame, wanted))
        if group is None:
            group = self._groups[frame, wanted] = _AlertGroup(frame, wanted)
            for places in self._places(wanted):
                places.add(group)
        group.receivers.add(receiver)
        self._of[receiver] = group

    def discard(self, receiver: Receiver) -> None:
        group = self._of.pop(receiver, None)
        if group is None:
            return
        group.receivers.discard(receiver)
        if group.receivers:
            return
        del self._groups[group.frame, group.wanted]
        for places in self._places(group.wanted):
            places.discard(group)
        for symbol in group.wanted.symbols or ():
            if not self._by_symbol[symbol]:
                del self._by_symbol[symbol]

    def broadcast(self, alerts: Sequence[LoggedAlert]) -> None:
        """Give each client its selection of `alerts`."""
        chosen: defaultdict[_AlertGroup, list[LoggedAlert]] = defaultdict(list)
        for alert in alerts:
            for groups in (self._every_symbol, self._by_symbol.get(alert.symbol, ())):
                for group in groups:
                    if group.wanted.includes(alert):
                        chosen[group].append(alert)
        framed: dict[tuple[AlertFrame, int], bytes] = {}
        for group, its_alerts in chosen.items():
            try:
                self._send(group, its_alerts, framed)
            except Exception:  # an error of one group: the others must still get theirs
                for receiver in tuple(group.receivers):
                    end_failed(receiver)

    def _send(
        self, group: _AlertGroup, alerts: Sequence[LoggedAlert], framed: dict[tuple[AlertFrame, int], bytes]
    ) -> None:
        frame = group.frame
        for alert in alerts:
            if (frame, alert.seq) not in framed:
                framed[frame, alert.seq] = frame(alert)
        for block in blocks((framed[frame, alert.seq] for alert in alerts), self._block_bytes):
            sent = 0
            for receiver in group.receivers:
                try:
                    sent += receiver.offer(block)
                except Exception:  # an error of one client
                    end_failed(receiver)
            # one addition for all: it costs as much as giving the block to one client
            self._metrics.websocket_sent.inc(sent * block.messages)

    def _places(self, wanted: Wanted) -> list[set[_AlertGroup]]:
        if wanted.symbols is None:
            return [self._every_symbol]
        return [self._by_symbol[symbol] for symbol in wanted.symbols]
