"""The vocabulary of the log: every event that any role can write, and what it means.

`python -m app.log_events > deploy/LOGS.md` writes it down for people; tests hold it to the calls in the code. A new
event: its call, a line here, the file written anew.
"""

from __future__ import annotations

import sys
from typing import Final

EVENTS: Final[dict[str, dict[str, str]]] = {
    "A candle on its way": {
        "alerts_published": "Kafka has these alerts (`id symbol rule_type` each) that came of this frame",
        "frame_done": "a stage, or the sidecar, is done with a frame: what followed from it is where it belongs",
        "frame_made": "the bridge made a frame of candles and gave it the id by which the other stages name it",
        "gap": "minutes are missing between two closed candles of a symbol",
        "market_refilled": "the past of symbols that the tables do not know came from the database",
        "warmed_up": "indicators of a long timeframe were warmed up from the exchange's own bars",
        "rows_stored": "the database has what came of these frames, or these alerts (`of`)",
    },
    "What cannot be used": {
        "dead_letter_failed": "a dead letter could not be sent: the process ends, the record is read again",
        "frames_unreadable": "messages of the exchange that are no candles, since the last such event",
        "gap_report_unreadable": "a record with gaps that the feed cannot read: skipped",
        "record_skipped": "a record that the sidecar cannot read",
        "snapshot_unusable": "stored state of another version, or damaged: the stage does without",
        "ticker_unreadable": "a stored ticker that is none of ours: left out",
    },
    "Processes": {
        "bridge_started": "the bridge has its stream and its consumer",
        "cannot_start": "what keeps a worker from starting, with what to do",
        "companion_failed": "something that runs beside a worker's stages ended: so does the process",
        "event_loop_blocked": "the event loop stood still for seconds; `stack` is where",
        "feed_not_ready": "the feed lost what it needs to be ready",
        "feed_ready": "the feed has its connections and history",
        "partitions_assigned": "the partitions that a stage or sink now owns, and those whose state it rebuilt",
        "port_taken": "another program listens on a port of ours",
        "restore_failed": "state could not be rebuilt after a rebalance: the process ends",
        "role_ended": "the supervisor saw a role end and starts it again",
        "role_stopped": "a role ended because it was asked to",
        "serving": "an HTTP server listens",
        "stage_failed": "something unexpected in a stage: the process ends, nothing of the record is acknowledged",
    },
    "Servers away and back": {
        "barrier_report_waits": "a report of a barrier waits for Redis",
        "cannot_follow": "the sidecar lost Kafka and tries again",
        "consumer_lost": "NATS has no consumer for the bridge any more",
        "consumer_not_reopened": "making stream and consumer anew failed; tried again",
        "consumer_reopened": "stream and consumer are there again",
        "database_answers_again": "a sink can write again",
        "dependency_down": "a server does not answer",
        "dependency_up": "a server answers again",
        "history_unavailable": "minutes could not be read from the database: windows stay null until whole",
        "kafka_send_failed": "Kafka did not take a record: sent again by the bridge; a worker ends and reads it again",
        "no_database": "the sidecar has no connection to the database yet",
        "not_acknowledged": "NATS was away too long to be told what Kafka has: it sends those messages again",
        "not_drained": "a stop could not wait for everything to reach its end",
        "offsets_not_committed": "stored rows will be read and written again",
        "query_failed": "a query of the sidecar failed",
        "rate_limit_not_shared": "Redis does not answer: each sidecar counts for itself",
        "records_are_gone": "the sidecar's place in a topic is no longer there: it begins anew",
        "recording_interrupted": "the recorder lost NATS and goes on when it is back",
        "recording_not_written": "the recorder cannot write its file: it keeps the candles and tries again",
        "redis_unreachable": "cooldowns come from the worker's own memory",
        "retention_failed": "old rows could not be deleted; tried again in a minute",
        "sender_waits": "the sender of webhooks waits for the database",
        "sink_waits": "a sink waits for the database or for Redis, and with it its consumer",
        "stopped_in_outage": "stopped while a server was away: what was not stored is read again",
    },
    "Exchange": {
        "backfill_failed": "minutes could not be fetched; tried again later",
        "connection_lost": "a connection to the exchange ended and is made again",
        "connection_replaced": "a connection was renewed on purpose, with overlap",
        "exchange_limits_us": "the exchange refuses requests for a while (429, 418): they wait",
        "exchange_request_repeated": "a request to the exchange failed and is made again",
        "exchange_time_unknown": "the exchange's clock could not be asked",
        "exchange_unavailable": "the exchange cannot be reached, with what to check",
        "fetching_minutes": "progress of a backfill",
        "gap_reported": "the collector told of a gap that the feed will fill",
        "gap_reports_unavailable": "reports of gaps cannot be read for now",
        "indicator_bars_not_sent": "bars for indicators could not be sent: long timeframes warm up as bars pass",
        "indicator_bars_sent": "bars of long timeframes are on their way, to warm up indicators",
        "indicator_bars_unavailable": "the exchange does not give bars of a long timeframe: it warms up as bars pass",
        "minutes_given_up": "the exchange does not have these minutes",
        "publish_again": "messages that NATS did not confirm are sent again",
        "publish_refused": "NATS refuses a candle for good",
        "stored_minutes_unknown": "which minutes are stored could not be asked: all of them are fetched",
        "tickers_not_removed": "tickers of symbols that are gone could not be removed",
        "tickers_not_written": "24 h tickers could not be written to Redis",
        "tickers_unavailable": "24 h tickers could not be read from the exchange",
        "universe_changed": "symbols are followed from now on, or no longer",
        "universe_shrank": "the exchange lists far fewer symbols than are followed: asked once more",
    },
    "Simulated exchange": {
        "fault_begun": "a fault on command began",
        "fault_refused": "a fault was asked for that there is none of",
    },
    "Database": {
        "expired_rows_deleted": "rows older than the retention were deleted",
        "timescale_not_used": "TimescaleDB is there and cannot be used, with what to do",
    },
    "Rules": {
        "known_rules_not_written": "the rules last in force could not be kept for a start without the database",
        "known_rules_unreadable": "the rules kept for a start without the database cannot be read",
        "rule_deleted": "somebody deleted a rule over the API",
        "rule_put": "somebody wrote a rule over the API",
        "rule_refused": "a stored rule does not compile: left out, the last good one stays",
        "rules_available": "the stored rules can be read again",
        "rules_changed": "rules changed while running, and are in force",
        "rules_loaded": "the rules in force after a start",
        "rules_unavailable": "the stored rules cannot be read: the last known ones go on",
    },
    "Requests and clients": {
        "answered": "a request was answered",
        "client_failed": "serving a WebSocket client failed",
        "conversation_failed": "a WebSocket conversation ended by a fault of ours",
        "request_unreadable": "what came was no HTTP request",
        "request_failed": "a request failed by a fault of ours: the client got a neutral 500",
        "settings_changed": "a user changed settings",
        "token_key_unusable": "a key of the key set cannot be used",
        "token_keys_loaded": "the keys that verify tokens were fetched",
        "token_keys_unavailable": "the keys that verify tokens could not be fetched: the known ones go on",
    },
    "Webhooks": {
        "housekeeping_failed": "settings could not be followed or old deliveries deleted; tried again",
        "webhook_attempt_broke": "an attempt failed by a fault of ours; tried again",
        "webhook_secret_changed": "a target got a new signing secret",
        "webhook_target_disabled": "a target was switched off for what it answered",
    },
}
"""Subject -> event -> meaning."""

_HEADER: Final = """\
# Log events

Written by `python -m app.log_events`. With `SCREENER_LOG_FORMAT=json` every line on stderr is one object: `timestamp`
(UTC), `level`, `logger` (the stage or part), `event` (one of those below) and the facts of the event, by name and with
units in the names. Secrets are masked. `error` or `fault` is what went wrong, `request_id` the id of an HTTP request.
Libraries write their own texts into `event`; theirs are not listed.

**Following a candle.** Every event of a frame has its `frame_id`; at `SCREENER_LOG_LEVEL=debug` each stage logs each
frame. From an alert to its candle: find the alert's id in `alerts_published`, take the `frame_id`, and look for it in
all roles: `frame_made` (bridge), `frame_done` (collector, calculator, alerts, sidecar), `rows_stored` (sinks). The same
id is the trace's id where `SCREENER_TRACE_URL` is set.
"""


def render() -> str:
    """The whole file."""
    parts = [_HEADER]
    for subject, events in EVENTS.items():
        rows = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in sorted(events.items()))
        parts.append(f"## {subject}\n| event | meaning |\n|---|---|\n{rows}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(render())
