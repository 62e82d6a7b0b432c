"""The active rules, as a worker with the given settings follows them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from app.alerts.known_rules import KnownRules
from app.alerts.rule_watch import RuleWatch
from app.clock import SystemClock
from app.settings import Settings
from tests.support.metric_values import UNREAD


def rule_watch(settings: Settings, registry: CollectorRegistry = UNREAD) -> RuleWatch:
    known = KnownRules(settings.data_dir, settings.names())
    return RuleWatch(settings.postgres(), known, settings.alert_mode, SystemClock(), registry)
