"""Generates `deploy/ALERTS.md`: for each alert, the deployed default under which it fires.

`python deploy/generators/alert_inventory.py` writes it; `make check-deploy` fails if the file is out of date, or if an
alert lacks its entry. Neither Compose nor the chart may have a default with which an alert can never fire.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Final

import yaml

DEPLOY: Final = Path(__file__).parents[1]
TARGET: Final = DEPLOY / "ALERTS.md"
_BOTH: Final = "Compose, chart"
_EXPORTER: Final = "Compose; chart with `exporters.{}.enabled`"
_BROKERS: Final = "several brokers: chart with `exporters.kafka.enabled`"
_BACKUPS: Final = "`compose.backup.yaml`; chart with backups and kube-state-metrics"
_NODE: Final = "Compose; elsewhere with your node exporter as the job `node`"
_BUDGET: Final = "the objective of `prometheus/rules/slo.yaml`, four windows from 1 hour to 3 days"
INVENTORY: Final[dict[str, tuple[str, str]]] = {
    "ScreenerServiceDown": (
        _BOTH,
        "every role has a job, scraped every 15 s (chart: `monitoring.serviceMonitor`)",
    ),
    "ScreenerRoleAbsent": (
        _BOTH,
        "every role runs; feed, market and webhooks count once they have run within a day",
    ),
    "ScreenerHighErrorRate": (
        _BOTH,
        "1 % of rows become dead letters; 5 % of queries, publishes or requests fail",
    ),
    "ScreenerDatabasePoolExhausted": (
        _BOTH,
        "95 % of the pool of a role is in use, or a request waits for it",
    ),
    "ScreenerLowWebSocketConnections": (
        _BOTH,
        "the feed's connections fall to 0, or below 70 % of the last hour's most",
    ),
    "ScreenerNatsMessageLag": (
        _BOTH,
        "10,000 messages of the stream, which keeps 48 hours and drops none before",
    ),
    "ScreenerHighMemoryUsage": (_BOTH, "85 % of the container's limit (Compose 2 GB; chart 512 MB to 2 GB)"),
    "ScreenerSlowDatabaseInserts": (_BOTH, "50 ms a batch on average; the target that benchmarks measured"),
    "ScreenerRetentionOverdue": (
        _BOTH,
        "an hour behind `SCREENER_RETENTION_HOURS` (48), on plain PostgreSQL and TimescaleDB",
    ),
    "ScreenerDatabaseJobsFailing": (
        "Compose; chart with TimescaleDB",
        "compression's and retention's jobs of TimescaleDB",
    ),
    "ScreenerSlowAlertEvaluation": (_BOTH, "1 ms a frame on average; the target that benchmarks measured"),
    "ScreenerHighWebhookFailureRate": (
        _BOTH,
        "a tenth of attempts; an attempt ends after `SCREENER_WEBHOOK_TIMEOUT_S` (15)",
    ),
    "ScreenerLowDiskSpace": (_BOTH, "10 % free: of the machine (node exporter), or of a claim (kubelet)"),
    "ScreenerPodRestarting": (
        _BOTH,
        "three restarts in 15 minutes: Compose restarts `unless-stopped`, Kubernetes always",
    ),
    "ScreenerNoCandles": (
        _BOTH,
        "no candle for 3 minutes; a feed or a producer sends each symbol's every minute",
    ),
    "ScreenerConsumerLagHigh": (_BOTH, "100 records of any stage, measured every 5 s"),
    "ScreenerConsumerLagGrowing": (_BOTH, "20 records of any stage, and more for 15 minutes"),
    "ScreenerMinutesMissing": (_BOTH, "6 minutes in half an hour that the feed did not fill"),
    "ScreenerClockDisagrees": (
        _BOTH,
        "30 s between the machine's clock and the exchange's, which the feed compares",
    ),
    "ScreenerTooManySymbols": (_BOTH, "`SCREENER_SYMBOLS_MAX` (3,000), shared among the shards"),
    "ScreenerFeedOwesMinutes": (
        _BOTH,
        "any minute that is owed for 15 minutes, after which the feed gives it up",
    ),
    "ScreenerRecordQuarantined": (_BOTH, "three ends of a process at one record"),
    "ScreenerWebhooksWaiting": (_BOTH, "ten minutes after the oldest webhook was due"),
    "ScreenerWebhooksGivenUp": (_BOTH, "three days of attempts, or an answer 410"),
    "ScreenerCooldownDegraded": (_BOTH, "Redis has not answered the alert workers for 5 minutes"),
    "ScreenerRulesNotFollowed": (
        _BOTH,
        "the database has not answered for 10 minutes, or a stored rule does not compile",
    ),
    "ScreenerRuleSwitchedOff": (_BOTH, "one rule that raised"),
    "ScreenerRoleStuck": (_BOTH, "work has waited for 2 minutes, and none was done"),
    "ScreenerNotReady": (_BOTH, "15 minutes; a start with recovery is allowed 2 in Compose"),
    "ScreenerDependencyDown": (_BOTH, "no process of a role has reached a server for 2 minutes"),
    "ScreenerTaskFailing": (_BOTH, "four failures of a background task in half an hour"),
    "ScreenerEventLoopLagging": (_BOTH, "one task in a hundred waits a second"),
    "ScreenerSymbolMemoryHigh": (_BOTH, "160 KiB a symbol in the calculator"),
    "ScreenerBackupFailed": (
        _BACKUPS,
        "a job of `backup.*` with a failed pod; a script of Compose that failed",
    ),
    "ScreenerBackupMissing": (
        _BACKUPS,
        "30 hours after the last; backups run daily",
    ),
    "ScreenerDeadMan": (_BOTH, "always; sent to `DEAD_MAN_URL` where that is set"),
    "ScreenerServerUnwatched": (
        _EXPORTER.format("*"),
        "an exporter or its server away; Compose has five, the chart those that are enabled",
    ),
    "ScreenerKafkaBrokerMissing": (
        _BROKERS,
        "a broker fewer than within a day; Compose has one",
    ),
    "ScreenerKafkaUnderReplicated": (
        _BROKERS,
        "topics of three copies; Compose has one",
    ),
    "ScreenerNatsStorageFilling": (
        _EXPORTER.format("nats"),
        "80 % of `max_file_store`: 10 GB in `nats/nats.conf`, `nats.maxFileStore` in the chart",
    ),
    "ScreenerRedisMemoryFull": (_EXPORTER.format("redis"), "90 % of `maxmemory`, 256 MB"),
    "ScreenerRedisNotPersisting": (_EXPORTER.format("redis"), "the append-only file, which Compose turns on"),
    "ScreenerPostgresConnectionsHigh": (
        _EXPORTER.format("postgres"),
        "80 % of `max_connections`, 100 unless it is set",
    ),
    "ScreenerMachineMemoryLow": (_NODE, "10 % of the machine's memory, by the node exporter"),
    "ScreenerAlertLatencyBudgetBurn": (_BOTH, _BUDGET),
    "ScreenerIngestCompletenessBudgetBurn": (_BOTH, _BUDGET),
    "ScreenerApiBudgetBurn": (_BOTH, _BUDGET),
    "ScreenerWebhookBudgetBurn": (_BOTH, _BUDGET),
}
"""Alert -> (where it can fire, the default under which it does)."""
_HEADER: Final = """\
# Alerts

Written by `python deploy/generators/alert_inventory.py`. For each alert: where it can fire as shipped, and the default
under which it does. `prometheus/tests/` has a case of each that fires and one close to it that does not.

| alert | severity | after | where | fires at |
|---|---|---|---|---|
"""


def render() -> str:
    """Return the content of the file. Raises SystemExit unless the inventory names exactly the existing alerts."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted((DEPLOY / "prometheus" / "rules").glob("*.yaml")):
        for group in yaml.safe_load(file.read_text())["groups"]:
            for rule in group["rules"]:
                if "alert" in rule:
                    found.setdefault(rule["alert"], []).append(rule)
    if set(found) != set(INVENTORY):
        raise SystemExit(
            f"alerts without an entry, or entries without an alert: {set(found) ^ set(INVENTORY)}"
        )
    return _HEADER + "".join(_row(name, rules) for name, rules in found.items())


def _row(name: str, rules: list[dict[str, Any]]) -> str:
    where, default = INVENTORY[name]
    severities = "/".join(dict.fromkeys(rule["labels"]["severity"] for rule in rules))
    after = " to ".join(dict.fromkeys((rules[0].get("for", "0s"), rules[-1].get("for", "0s"))))
    return f"| [{name}](runbooks/{name}.md) | {severities} | {after} | {where} | {default} |\n"


if __name__ == "__main__":
    if "--print" in sys.argv:
        print(render(), end="")
    else:
        TARGET.write_text(render())
