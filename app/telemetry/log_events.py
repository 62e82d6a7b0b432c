"""Every log event of every role, with its meaning.

`python -m app.telemetry.log_events > deploy/LOGS.md` writes the document; tests compare the events with the calls in
the code. For a new event add its call and a line here, and write the document again.
"""

from __future__ import annotations

import sys
from typing import Final

EVENTS: Final[dict[str, dict[str, str]]] = {
    "A candle on its way": {
        "alerts_published": "Kafka stored the alerts of this frame (`id symbol rule_type` each)",
        "frame_done": "a stage, or the sidecar, finished a frame: its results are stored or sent",
        "frame_made": "the bridge made a frame of candles and gave it the id that all stages use",
        "gap": "minutes are missing between two closed candles of a symbol",
        "market_refilled": "the history of symbols that the tables do not know came from the database",
        "warmed_up": "indicators of a long timeframe were warmed up from the exchange's own bars",
        "bars_rolled_up": "at the start: bars of stored minutes were made that earlier versions or others had left out",
        "rows_stored": "the database stored the rows of these frames, or these alerts (`of`)",
    },
    "Invalid input": {
        "dead_letter_failed": "a dead letter could not be sent: the process ends, the record is read again",
        "frames_unreadable": "invalid messages of the exchange, since the last such event",
        "attempts_not_noted": "the data directory cannot be written: records that end the process cannot be found",
        "attempts_unreadable": "the file with the records at which a process ended is damaged: counting starts again",
        "ended_at_record": "found at the start: the previous process ended while it processed these records",
        "gap_report_unreadable": "the feed cannot read a record with gaps: skipped",
        "record_failed": "the sidecar failed at a record and skips it",
        "record_quarantined": "a record at which the process had ended three times went to the dead letters",
        "record_skipped": "the sidecar or the market role cannot read a record and skips it",
        "rows_skipped": "the sidecar skips rows of a frame: their symbol or time is invalid",
        "snapshot_unusable": "stored state is damaged or of another version: the stage ignores it",
        "ticker_unreadable": "a stored ticker is invalid: left out",
    },
    "Processes": {
        "bridge_started": "the bridge has its stream and its consumer",
        "cannot_start": "the reason why a worker cannot start, with the remedy",
        "companion_failed": "a service beside the stages of a worker ended: the process ends too",
        "event_loop_blocked": "the event loop was blocked for seconds; `stack` shows the place",
        "feed_not_ready": "the feed is no longer ready",
        "feed_ready": "the feed has its connections and history",
        "market_not_waiting": "a partition has sent nothing for too long: minutes are sealed without it",
        "market_not_waiting_for_nats": "published candles have not passed the bridges for too long: minutes are sealed",
        "market_taken_over": "this process now seals minutes; `sealed_ms` is the last one sealed before",
        "partition_not_owned": "a record of a partition whose state is not here: the process ends, to read it again",
        "partitions_assigned": "the partitions that a stage or sink now owns, and the partitions with rebuilt state",
        "port_taken": "another program listens on one of our ports",
        "restore_failed": "state could not be rebuilt after a rebalance: the process ends",
        "role_ended": "a role ended; the supervisor restarts it",
        "sign_not_told": "the sign of life could not be written to Redis",
        "server_ended": "an embedded server ended; the supervisor restarts it",
        "server_refuses": "an embedded NATS stores nothing any more: it is restarted when its disk has space",
        "server_restarted": "an embedded server answers again",
        "role_stopped": "a role stopped because it was asked to",
        "serving": "an HTTP server listens",
        "task_failed": "a background task raised: it is restarted",
        "worker_starting": "a worker of Faust starts: its name and version",
        "stage_failed": "an unexpected error in a stage: the process ends, and the record is not acknowledged",
        "state_restored": "others may have read a partition while this process stood still: it is restored",
    },
    "Servers down and up": {
        "bridge_position_unknown": "NATS did not say how far the bridges are; retried",
        "broker_waits": "the embedded broker runs again; the roles that fill it wait for another server",
        "barrier_report_waits": "a report of a barrier waits for Redis",
        "cannot_follow": "the sidecar lost Kafka, or a topic has another number of partitions; it retries",
        "cannot_publish": "the subjects of the earlier system wait for NATS or Kafka",
        "consumer_lost": "NATS no longer has a consumer for the bridge",
        "consumer_not_reopened": "stream and consumer could not be created again; retried",
        "consumer_reopened": "stream and consumer exist again",
        "backlogs_unknown": "Kafka or NATS did not say how far the roles have come",
        "dependency_down": "a server does not answer",
        "dependency_up": "a server answers again",
        "history_unavailable": "the database gave no minutes or bars: windows stay null until they are complete",
        "kafka_send_failed": "Kafka did not accept a record: the bridge retries; a worker ends and reads it again",
        "no_database": "the sidecar has no connection to the database yet",
        "not_acknowledged": "NATS was down too long for an acknowledgement: it sends these messages again",
        "not_drained": "a stop could not wait until everything was stored",
        "outage_over": "the action of the event in `outage` works again, with the number of failures and the duration",
        "drain_waits": "a replay waits for its end but cannot ask NATS or Redis; retried",
        "group_not_deleted": "a consumer group still has members: its deletion is retried",
        "offsets_not_committed": "stored rows will be read and written again",
        "query_failed": "a query of the sidecar failed",
        "rate_limit_not_shared": "Redis does not answer: each sidecar counts by itself",
        "records_are_gone": "the sidecar's offset in a topic no longer exists: it starts again",
        "recording_interrupted": "the recorder lost NATS and continues when it is back",
        "recording_not_written": "the recorder cannot write its file: it keeps the candles and retries",
        "redis_unreachable": "cooldowns come from the worker's own memory",
        "row_unreadable": "a row of a table is invalid: it is left out; reported once",
        "retention_failed": "old rows could not be deleted or looked for; retried in a minute",
        "sender_waits": "the sender of webhooks waits for the database",
        "sink_waits": "a sink and its consumer wait for the database or for Redis",
        "stopped_in_outage": "stopped while a server was down: rows that were not stored are read again",
        "stream_copies_added": "the stream of candles has as many copies as SCREENER_NATS_REPLICAS asks for",
        "stream_copies_not_added": "NATS cannot keep that many copies now: candles flow on with the copies there are",
        "stream_keeps_forming_candles": "NATS is older than 2.11: forming candles stay `kept_s`, not 15 minutes",
        "stream_not_available": "JetStream does not answer for the stream, as without a majority of servers: retried",
    },
    "Exchange": {
        "backfill_failed": "minutes could not be fetched; retried later",
        "candles_ahead": "the exchange sent candles from the future: they go to the dead letters and move no clock",
        "clock_agrees": "the clocks of this machine and of the exchange agree again",
        "clock_disagrees": "the clocks of this machine and of the exchange differ too much: set this machine's clock",
        "clock_suspected": "many candles are rejected as `future`: the clock of this machine may be slow",
        "connection_lost": "a connection to the exchange ended; the feed reconnects",
        "connection_replaced": "a connection was replaced on purpose, with overlap",
        "exchange_blocks_us": "the exchange does not serve this address (403, 451), with its answer: requests wait",
        "exchange_limits_us": "too many requests (429, 418), with the exchange's answer: requests wait",
        "exchange_request_repeated": "a request to the exchange failed and is retried",
        "exchange_time_unknown": "the exchange's clock could not be read",
        "exchange_unavailable": "the exchange cannot be reached, with advice",
        "fetching_minutes": "progress of a backfill",
        "gap_reported": "the collector reported a gap; the feed will fill it",
        "gap_reports_unavailable": "reports of gaps cannot be read now",
        "indicator_bars_not_sent": "Kafka did not accept bars for indicators: they are fetched and sent again later",
        "indicator_bars_given_up": "too many requests for bars failed: long timeframes warm up as bars pass",
        "indicator_bars_repaired": "after minutes that the exchange never had, indicators continue from its own bars",
        "indicator_bars_sent": "bars of long timeframes were sent, to warm up indicators",
        "indicator_bars_unavailable": "the exchange did not return bars of a long timeframe: retried later",
        "klines_invalid": "the exchange returned invalid bars over REST: left out, and still owed",
        "minutes_given_up": "the exchange does not have these minutes",
        "publish_again": "messages without a confirmation of NATS are sent again",
        "publish_refused": "NATS rejects a candle for good",
        "stored_minutes_unknown": "the database could not say which minutes are stored: all are fetched",
        "symbols_left_out": "listed contracts that the feed does not follow, counted by reason",
        "tickers_not_removed": "tickers of removed symbols could not be deleted",
        "tickers_not_written": "24 h tickers could not be written to Redis",
        "tickers_unavailable": "24 h tickers could not be read from the exchange",
        "universe_changed": "the feed follows new symbols, or stops following symbols",
        "universe_shrank": "the exchange lists far fewer symbols than before: the feed asks once more",
    },
    "Simulated exchange": {
        "fault_begun": "a commanded fault began",
        "fault_refused": "an unknown fault was requested",
    },
    "Database": {
        "expired_rows_deleted": "rows (of TimescaleDB: chunks) older than the retention were deleted",
        "retention_not_allowed": "this database role may not drop chunks of TimescaleDB, with the remedy",
        "timescale_not_set_up": "this database role may not set up TimescaleDB, with the remedy",
        "timescale_not_used": "TimescaleDB is installed but cannot be used, with the remedy",
        "timescale_without_compression": "the hypertable is not compressed in this layout: TimescaleDB's licence or "
        "version does not allow it",
    },
    "Rules": {
        "known_rules_not_written": "the active rules could not be saved for a start without the database",
        "known_rules_unreadable": "the rules saved for a start without the database cannot be read",
        "rule_deleted": "somebody deleted a rule over the API",
        "rule_put": "somebody wrote a rule over the API",
        "rule_refused": "a stored rule does not compile: left out, its last valid form stays",
        "rule_switched_off": "a rule raised while it was compiled or evaluated: off in this process until it is edited",
        "rules_awaited": "too many rows came while a new rule read its history: the stream waited, no row is lost",
        "rules_changed": "rules changed while running, and are active",
        "rules_loaded": "the active rules after a start",
        "rules_warmed_up": "rules that look back have seen the stored minutes, all but `missing_minutes` of the newest",
        "switched_off_rules_not_told": "Redis does not accept the list of rules that are off in this process; retried",
        "switched_off_rules_unknown": "Redis could not be asked which rules are off: the last answer stays",
        "switched_off_rules_unreadable": "a process reported an invalid list of rules: left out",
        "rules_unavailable": "the stored rules cannot be read: the last known rules stay active",
    },
    "Requests and clients": {
        "answered": "a request was answered",
        "client_failed": "serving a WebSocket client failed",
        "conversation_failed": "a WebSocket session ended because of an internal error",
        "request_unreadable": "the received bytes were no HTTP request",
        "request_failed": "a request failed because of an internal error: the client got a neutral 500",
        "rule_trial_failed": "the process that tries rules ended or took too long: the next trial gets a new one",
        "settings_changed": "a user changed settings",
        "token_key_unusable": "a key of the key set cannot be used",
        "token_keys_loaded": "the keys that verify tokens were fetched",
        "token_keys_unavailable": "the keys that verify tokens could not be fetched: the known keys stay in use",
    },
    "Webhooks": {
        "housekeeping_failed": "settings could not be read or old deliveries deleted; retried",
        "webhook_attempt_broke": "an attempt failed because of an internal error; retried",
        "webhook_dead": "the last attempt of a message failed: it is kept, and sent again only by command",
        "webhook_failed": "an attempt failed; the message is retried later",
        "webhook_paced": "a receiver asked to wait; its messages are sent later and use up no attempts",
        "webhook_secret_changed": "a target got a new signing secret",
        "webhook_target_disabled": "a target was disabled because of its answers",
    },
}
"""Subject -> event -> meaning."""

_HEADER: Final = """\
# Log events

Written by `python -m app.telemetry.log_events`. With `SCREENER_LOG_FORMAT=json` every line on stderr is one object:
`timestamp` (UTC), `level`, `logger` (the stage or part), `event` (listed below) and the fields of the event, with units
in their names. Secrets are masked. `error` or `fault` is the error, `request_id` the id of an HTTP request. Libraries
write their own texts into `event`; these are not listed.

**Outages.** A failure that repeats is logged when it begins, once a minute while it lasts (`failures` counts them,
`for_s` is the duration), and once as `outage_over`, where `outage` names the event.

**Following a candle.** Every event of a frame has its `frame_id`; at `SCREENER_LOG_LEVEL=debug` each stage logs each
frame. From an alert to its candle: find the alert's id in `alerts_published`, take the `frame_id`, and search for it
in all roles: `frame_made` (bridge), `frame_done` (collector, calculator, alerts, sidecar), `rows_stored` (sinks). If
`SCREENER_TRACE_URL` is set, the trace has the same id.
"""


def render() -> str:
    """Return the whole file."""
    parts = [_HEADER]
    for subject, events in EVENTS.items():
        rows = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in sorted(events.items()))
        parts.append(f"## {subject}\n| event | meaning |\n|---|---|\n{rows}\n")
    return "\n".join(parts)


if __name__ == "__main__":
    sys.stdout.write(render())
