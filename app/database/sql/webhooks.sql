-- The outbox of webhooks. Times are given, never the database's own clock.

-- name: users_without_target
SELECT s.user_id, s.webhook_url
FROM user_settings AS s
LEFT JOIN webhook_targets AS t ON t.user_id = s.user_id
WHERE s.webhook_url IS NOT NULL AND s.notification_enabled AND (t.id IS NULL OR t.url <> s.webhook_url)
  AND (%(user_id)s::text IS NULL OR s.user_id = %(user_id)s);

-- name: put_user_target
-- A new URL is a new receiver: it gets a secret of its own and nothing that its predecessor earned.
INSERT INTO webhook_targets AS t (
    user_id, url, format, secret, enabled, disabled_reason, active_since, created_at
)
SELECT u.user_id, u.url, u.format, u.secret, u.fault IS NULL, u.fault, %(now)s, %(now)s
FROM unnest(
    %(user_ids)s::text[], %(urls)s::text[], %(formats)s::text[], %(secrets)s::text[], %(faults)s::text[]
) AS u (user_id, url, format, secret, fault)
ON CONFLICT (user_id) DO UPDATE
SET (url, format, secret, previous_secret, previous_secret_until, enabled, disabled_reason, failures, paced, held_until,
     last_success_at, active_since)
  = (excluded.url, excluded.format, excluded.secret, NULL, NULL, excluded.enabled, excluded.disabled_reason, 0, 0, NULL,
     NULL, excluded.active_since)
WHERE t.url <> excluded.url;

-- name: follow_user_switches
-- Off when the user turned notifications off or took the URL away, on again when that is undone.
UPDATE webhook_targets AS t
SET enabled = s.wanted,
    disabled_reason = CASE WHEN s.wanted THEN NULL ELSE 'off' END,
    active_since = CASE WHEN s.wanted THEN %(now)s ELSE t.active_since END
FROM (
    SELECT user_id, notification_enabled AND webhook_url IS NOT NULL AS wanted FROM user_settings
) AS s
WHERE s.user_id = t.user_id AND (%(user_id)s::text IS NULL OR s.user_id = %(user_id)s)
  AND (t.enabled AND NOT s.wanted OR t.disabled_reason = 'off' AND s.wanted);

-- name: route
-- A delivery for every alert and target that wants it; what is there already stays as it is.
WITH alerts AS MATERIALIZED (
    SELECT (a.alert ->> 'id')::uuid AS alert_id, a.seq, a.alert, a.published_at,
           a.alert ->> 'symbol' AS symbol, a.alert ->> 'rule_type' AS rule_type, a.alert ->> 'severity' AS severity
    FROM unnest(%(seqs)s::bigint[], %(alerts)s::json[], %(published)s::timestamptz[]) AS a (seq, alert, published_at)
), matched AS MATERIALIZED (
    SELECT gen_random_uuid() AS id, t.id AS target_id, t.digest_s, a.alert_id, a.seq
    FROM webhook_targets AS t
    LEFT JOIN user_settings AS s ON s.user_id = t.user_id
    JOIN alerts AS a ON a.published_at >= t.active_since
    WHERE t.enabled AND CASE WHEN t.user_id IS NULL THEN
        (t.rule_types = '{}' OR a.rule_type = ANY (t.rule_types))
        AND (t.symbols = '{}' OR a.symbol = ANY (t.symbols))
        AND (t.severities = '{}' OR a.severity = ANY (t.severities))
    ELSE
        s.selected_alerts && ARRAY[a.rule_type, '*']
        OR EXISTS (
            SELECT FROM user_alert_subscriptions AS u
            WHERE u.user_id = t.user_id AND u.rule_type IN (a.rule_type, '*') AND u.symbol IN (a.symbol, '*')
        )
    END
), kept AS (
    INSERT INTO webhook_alerts (alert_id, seq, alert, kept_at)
    SELECT DISTINCT ON (alert_id) alert_id, seq, alert, %(now)s::timestamptz
    FROM alerts WHERE alert_id IN (SELECT alert_id FROM matched)
    ORDER BY alert_id, seq
    -- locks it, so that it is not deleted as unused meanwhile
    ON CONFLICT (alert_id) DO UPDATE SET kept_at = excluded.kept_at
)
INSERT INTO webhook_deliveries (id, target_id, alert_id, seq, message_id, due_at, created_at)
SELECT id, target_id, alert_id, seq, CASE WHEN digest_s = 0 THEN id END,
       CASE WHEN digest_s = 0 THEN %(now)s::timestamptz ELSE
           to_timestamp((floor(extract(epoch FROM %(now)s::timestamptz) / digest_s) + 1) * digest_s)
       END,
       %(now)s
FROM matched
ORDER BY seq
ON CONFLICT (target_id, alert_id) DO NOTHING;

-- name: close_digests
-- What gathered until now becomes messages of at most so many alerts. From then on they belong together.
WITH due AS MATERIALIZED (
    SELECT d.id, d.target_id, d.seq
    FROM webhook_deliveries AS d JOIN webhook_targets AS t ON t.id = d.target_id
    WHERE d.status = 'pending' AND d.message_id IS NULL AND d.due_at <= %(now)s AND t.enabled
    ORDER BY d.due_at
    LIMIT 2000
    FOR UPDATE OF d SKIP LOCKED
), numbered AS (
    SELECT id, target_id, seq,
           (row_number() OVER (PARTITION BY target_id ORDER BY seq, id) - 1) / %(most)s AS part
    FROM due
), led AS (
    SELECT id, first_value(id) OVER (PARTITION BY target_id, part ORDER BY seq, id) AS leader FROM numbered
)
UPDATE webhook_deliveries AS d
SET message_id = led.leader, due_at = CASE WHEN d.id = led.leader THEN d.due_at END
FROM led
WHERE d.id = led.id;

-- name: claim
-- The messages due, oldest first at each target, within what it and this sender have room for. A target whose last
-- attempt failed, or that asked to wait, is tried with one message at a time. Room goes first to the targets that have
-- least under way: what is reserved only to those with nothing, and to all slow ones together no more than theirs.
-- The targets with anything pending are found by skipping from one to the next along the index.
WITH RECURSIVE waiting (target_id) AS (
    (SELECT target_id FROM webhook_deliveries
     WHERE status = 'pending' AND due_at IS NOT NULL ORDER BY target_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.target_id FROM webhook_deliveries AS d
            WHERE d.status = 'pending' AND d.due_at IS NOT NULL AND d.target_id > waiting.target_id
            ORDER BY d.target_id LIMIT 1)
    FROM waiting
    WHERE waiting.target_id IS NOT NULL
), open AS MATERIALIZED (
    SELECT t.id, coalesce(b.messages, 0) AS busy, t.id = ANY (%(slow_targets)s::uuid[]) AS slow,
           greatest(
               0,
               CASE WHEN t.failures > 0 OR t.paced > 0 THEN 1 ELSE %(target_room)s END - coalesce(b.messages, 0)
           ) AS room
    FROM waiting
    JOIN webhook_targets AS t ON t.id = waiting.target_id
    LEFT JOIN unnest(%(busy_targets)s::uuid[], %(busy_messages)s::integer[]) AS b (target_id, messages)
        ON b.target_id = t.id
    WHERE t.enabled AND (t.held_until IS NULL OR t.held_until <= %(now)s)
), due AS MATERIALIZED (
    SELECT d.id, d.due_at, d.seq, open.slow,
           open.busy + row_number() OVER (PARTITION BY open.id ORDER BY d.due_at, d.seq) AS place
    FROM open
    CROSS JOIN LATERAL (
        SELECT d.id, d.due_at, d.seq
        FROM webhook_deliveries AS d
        WHERE d.target_id = open.id AND d.status = 'pending' AND d.due_at <= %(now)s AND d.message_id = d.id
          AND (d.leased_until IS NULL OR d.leased_until <= %(now)s)
        ORDER BY d.due_at, d.seq
        LIMIT open.room
        FOR UPDATE SKIP LOCKED
    ) AS d
), fitting AS (
    SELECT id, due_at, seq, place, slow,
           row_number() OVER (PARTITION BY slow ORDER BY place, due_at, seq) AS among_slow
    FROM due
), placed AS (
    SELECT id, place, row_number() OVER (ORDER BY place, due_at, seq) AS number
    FROM fitting
    WHERE NOT slow OR among_slow <= %(slow_room)s
)
UPDATE webhook_deliveries AS d
SET lease_id = %(lease)s, leased_until = %(leased_until)s
FROM placed
WHERE d.id = placed.id AND placed.number <= %(room)s AND (placed.place = 1 OR placed.number <= %(shared_room)s)
RETURNING d.id;

-- name: messages
SELECT l.id, l.attempts, l.created_at, l.lease_id, t.id AS target_id, t.url, t.format, t.digest_s, t.secret,
       t.paced, t.user_id IS NOT NULL AS of_user,
       CASE WHEN t.previous_secret_until > %(now)s THEN t.previous_secret END AS previous_secret,
       m.seqs, m.alerts
FROM webhook_deliveries AS l
JOIN webhook_targets AS t ON t.id = l.target_id
CROSS JOIN LATERAL (
    SELECT array_agg(a.seq ORDER BY d.seq) AS seqs, array_agg(a.alert ORDER BY d.seq) AS alerts
    FROM webhook_deliveries AS d JOIN webhook_alerts AS a USING (alert_id)
    WHERE d.message_id = l.id
) AS m
WHERE l.id = ANY (%(ids)s::uuid[])
ORDER BY l.due_at, l.seq;

-- name: settle
-- The outcome of attempts, of those that are still ours: who took longer than its lease may have been overtaken.
UPDATE webhook_deliveries AS d
SET status = o.status,
    attempts = o.attempts,
    due_at = o.due_at,
    lease_id = NULL,
    leased_until = NULL,
    response_status = o.response_status,
    error = o.error,
    settled_at = CASE WHEN o.status = 'pending' THEN NULL ELSE %(now)s::timestamptz END
FROM unnest(
    %(ids)s::uuid[], %(leases)s::uuid[], %(statuses)s::text[], %(attempts)s::integer[], %(due)s::timestamptz[],
    %(response_statuses)s::integer[], %(errors)s::text[]
) AS o (id, lease_id, status, attempts, due_at, response_status, error)
WHERE d.id = o.id AND d.lease_id = o.lease_id
RETURNING d.id;

-- name: settle_followers
UPDATE webhook_deliveries AS d
SET (status, attempts, response_status, error, settled_at)
  = (l.status, l.attempts, l.response_status, l.error, l.settled_at)
FROM webhook_deliveries AS l
WHERE l.id = ANY (%(ids)s::uuid[]) AND d.message_id = l.id AND d.id <> l.id;

-- name: log_attempts
INSERT INTO webhook_attempts (message_id, attempt, at, duration_ms, response_status, outcome)
SELECT a.* FROM unnest(
    %(ids)s::uuid[], %(attempts)s::integer[], %(at)s::timestamptz[], %(durations)s::integer[],
    %(response_statuses)s::integer[], %(outcomes)s::text[]
) AS a (message_id, attempt, at, duration_ms, response_status, outcome)
WHERE EXISTS (SELECT FROM webhook_deliveries AS d WHERE d.id = a.message_id);

-- name: note_targets
-- Locked in one order everywhere, so that senders cannot wait for each other in a circle. A success that changes
-- nothing but its time is written now and then only.
WITH locked AS MATERIALIZED (
    SELECT id FROM webhook_targets WHERE id = ANY (%(target_ids)s::uuid[]) ORDER BY id FOR UPDATE
)
UPDATE webhook_targets AS t
SET failures = CASE WHEN n.succeeded THEN 0 ELSE t.failures END + n.failures,
    last_success_at = CASE WHEN n.succeeded THEN %(now)s ELSE t.last_success_at END,
    paced = greatest(CASE WHEN n.succeeded THEN 0 ELSE t.paced END, n.paced),
    held_until = greatest(t.held_until, n.held_until)
FROM unnest(
    %(target_ids)s::uuid[], %(urls)s::text[], %(succeeded)s::boolean[], %(failures)s::integer[],
    %(held_until)s::timestamptz[], %(paced)s::integer[]
) AS n (target_id, url, succeeded, failures, held_until, paced)
WHERE t.id IN (SELECT id FROM locked) AND t.id = n.target_id AND t.url = n.url
  AND (t.failures > 0 OR n.failures > 0 OR t.paced > 0 OR n.held_until IS NOT NULL
       OR t.last_success_at IS NULL OR t.last_success_at < %(now)s::timestamptz - interval '10 seconds');

-- name: disable_target
-- For `exhausted` only if nothing got through since the message that was given up had been written.
UPDATE webhook_targets
SET enabled = false, disabled_reason = %(reason)s
WHERE id = %(target_id)s AND url = %(url)s AND enabled
  AND (%(since)s::timestamptz IS NULL OR last_success_at IS NULL OR last_success_at < %(since)s)
RETURNING id;

-- name: release
UPDATE webhook_deliveries SET lease_id = NULL, leased_until = NULL
WHERE id = ANY (%(ids)s::uuid[]) AND lease_id = ANY (%(leases)s::uuid[]);

-- name: give_up_unreadable
UPDATE webhook_deliveries
SET status = 'dead', error = 'unreadable', due_at = NULL, lease_id = NULL, leased_until = NULL, settled_at = %(now)s
WHERE message_id = ANY (%(ids)s::uuid[]);

-- name: depth
SELECT (SELECT count(*) FROM webhook_deliveries WHERE status = 'pending' AND due_at IS NOT NULL),
       (SELECT count(*) FROM webhook_deliveries WHERE status = 'dead'),
       (SELECT min(d.due_at) FROM webhook_deliveries AS d JOIN webhook_targets AS t ON t.id = d.target_id
        WHERE d.status = 'pending' AND d.due_at <= %(now)s AND t.enabled
          AND (t.held_until IS NULL OR t.held_until <= %(now)s)),
       (SELECT min(d.due_at) FROM webhook_deliveries AS d JOIN webhook_targets AS t ON t.id = d.target_id
        WHERE d.status = 'pending' AND d.due_at <= %(now)s AND t.enabled
          AND (t.held_until IS NULL OR t.held_until <= %(now)s)
          AND (d.leased_until IS NULL OR d.leased_until <= %(now)s)),
       (SELECT count(*) FROM webhook_targets WHERE enabled),
       (SELECT count(*) FROM webhook_targets WHERE disabled_reason IN ('gone', 'exhausted', 'bad_url'));

-- name: give_up_held
-- What waits for a target that is off longer than anything is kept.
UPDATE webhook_deliveries AS d
SET status = 'dead', error = 'target_off', due_at = NULL, settled_at = %(now)s
FROM webhook_targets AS t
WHERE t.id = d.target_id AND NOT t.enabled AND d.status = 'pending' AND d.created_at < %(before)s;

-- name: delete_settled
DELETE FROM webhook_deliveries
WHERE id = ANY (ARRAY(
    SELECT id FROM webhook_deliveries WHERE status <> 'pending' AND settled_at < %(before)s LIMIT %(rows)s
));

-- name: delete_alerts
DELETE FROM webhook_alerts AS a
WHERE a.kept_at < %(before)s AND a.alert_id = ANY (ARRAY(
    SELECT k.alert_id FROM webhook_alerts AS k
    WHERE k.kept_at < %(before)s AND NOT EXISTS (SELECT FROM webhook_deliveries AS d WHERE d.alert_id = k.alert_id)
    LIMIT %(rows)s
));

-- name: put_settings_target
INSERT INTO webhook_targets AS t (from_settings, name, url, format, secret, active_since, created_at)
VALUES (true, 'SCREENER_WEBHOOK_URL', %(url)s, %(format)s, %(secret)s, %(now)s, %(now)s)
ON CONFLICT (from_settings) WHERE from_settings DO UPDATE
SET (url, format, secret, previous_secret, previous_secret_until, enabled, disabled_reason, failures, paced, held_until,
     last_success_at, active_since)
  = (excluded.url, excluded.format, excluded.secret, NULL, NULL, true, NULL, 0, 0, NULL, NULL, excluded.active_since)
WHERE t.url <> excluded.url OR t.disabled_reason = 'off';

-- name: drop_settings_target
-- It stays with its deliveries, and comes back with the setting.
UPDATE webhook_targets SET enabled = false, disabled_reason = 'off' WHERE from_settings AND enabled;

-- Below, user_id is the caller: it sees and changes what is its own. Null stands for operators, who see all.

-- name: targets
SELECT t.id, t.user_id, t.from_settings, t.name, t.url, t.format, t.rule_types, t.symbols, t.severities, t.digest_s,
       t.enabled, t.disabled_reason, t.failures, t.held_until, t.last_success_at, t.previous_secret_until, t.created_at,
       (SELECT count(*) FROM webhook_deliveries AS d
        WHERE d.target_id = t.id AND d.status = 'pending' AND d.due_at IS NOT NULL) AS pending,
       (SELECT count(*) FROM webhook_deliveries AS d WHERE d.target_id = t.id AND d.status = 'dead') AS dead
FROM webhook_targets AS t
WHERE (%(user_id)s::text IS NULL OR t.user_id = %(user_id)s) AND (%(id)s::uuid IS NULL OR t.id = %(id)s)
ORDER BY t.created_at, t.id;

-- name: add_target
INSERT INTO webhook_targets (
    name, url, format, secret, rule_types, symbols, severities, digest_s, active_since, created_at
)
VALUES (
    %(name)s, %(url)s, %(format)s, %(secret)s, %(rule_types)s, %(symbols)s, %(severities)s, %(digest_s)s, %(now)s, %(now)s
)
RETURNING id;

-- name: remove_target
DELETE FROM webhook_targets
WHERE id = %(id)s AND user_id IS NULL AND NOT from_settings AND %(user_id)s::text IS NULL;

-- name: enable_target
-- What waits for it is sent; alerts published while it was off are not.
UPDATE webhook_targets
SET enabled = true, disabled_reason = NULL, failures = 0, paced = 0, held_until = NULL,
    active_since = CASE WHEN enabled THEN active_since ELSE %(now)s END
WHERE id = %(id)s AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s);

-- name: switch_off
UPDATE webhook_targets SET enabled = false, disabled_reason = 'off'
WHERE id = %(id)s AND user_id IS NULL AND %(user_id)s::text IS NULL;

-- name: set_digest
UPDATE webhook_targets SET digest_s = %(digest_s)s
WHERE id = %(id)s AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s);

-- name: rotate_secret
UPDATE webhook_targets
SET previous_secret = secret, previous_secret_until = %(until)s, secret = %(secret)s
WHERE id = %(id)s AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s);

-- name: secret
SELECT secret FROM webhook_targets
WHERE id = %(id)s AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s);

-- name: test_target
SELECT id, url, format, secret, user_id IS NOT NULL AS of_user,
       CASE WHEN previous_secret_until > %(now)s THEN previous_secret END AS previous_secret
FROM webhook_targets
WHERE id = %(id)s AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s);

-- name: deliveries
SELECT d.id, d.target_id, d.message_id, d.alert_id, d.seq, a.alert ->> 'symbol' AS symbol,
       a.alert ->> 'rule_type' AS rule_type, d.status, d.attempts, l.due_at, d.response_status, d.error, d.created_at,
       d.settled_at
FROM webhook_deliveries AS d
JOIN webhook_targets AS t ON t.id = d.target_id
JOIN webhook_alerts AS a ON a.alert_id = d.alert_id
LEFT JOIN webhook_deliveries AS l ON l.id = coalesce(d.message_id, d.id)
WHERE (%(user_id)s::text IS NULL OR t.user_id = %(user_id)s)
  AND (%(target_id)s::uuid IS NULL OR d.target_id = %(target_id)s)
  AND (%(status)s::text IS NULL OR d.status = %(status)s)
  AND (%(id)s::uuid IS NULL OR d.id = %(id)s)
ORDER BY d.created_at DESC, d.seq DESC, d.id
LIMIT %(rows)s;

-- name: delivery_ids
-- By the primary key, and no more than tell that there are several.
SELECT d.id
FROM webhook_deliveries AS d
JOIN webhook_targets AS t ON t.id = d.target_id
WHERE d.id BETWEEN %(first)s AND %(last)s AND (%(user_id)s::text IS NULL OR t.user_id = %(user_id)s)
ORDER BY d.id
LIMIT 4;

-- name: attempts
SELECT attempt, at, duration_ms, response_status, outcome
FROM webhook_attempts
WHERE message_id = %(message_id)s
ORDER BY at, attempt;

-- name: redeliver
-- Whole messages: a digest goes again as it was. The schedule of retries begins anew.
UPDATE webhook_deliveries AS d
SET status = 'pending', attempts = 0, settled_at = NULL, lease_id = NULL, leased_until = NULL,
    due_at = CASE WHEN d.id = d.message_id THEN %(now)s::timestamptz END
WHERE d.message_id IN (
    SELECT w.message_id
    FROM webhook_deliveries AS w JOIN webhook_targets AS t ON t.id = w.target_id
    WHERE (%(user_id)s::text IS NULL OR t.user_id = %(user_id)s)
      AND (%(ids)s::uuid[] IS NULL OR w.id = ANY (%(ids)s))
      AND (%(target_id)s::uuid IS NULL OR w.target_id = %(target_id)s)
      AND (%(ids)s::uuid[] IS NOT NULL OR w.status = 'dead')
)
RETURNING d.id, d.message_id;

-- name: put_trial
WITH target AS (
    SELECT id FROM webhook_targets
    WHERE id = %(target_id)s AND enabled AND (%(user_id)s::text IS NULL OR user_id = %(user_id)s)
), kept AS (
    INSERT INTO webhook_alerts (alert_id, seq, alert, kept_at)
    SELECT %(id)s, 0, %(alert)s::json, %(now)s::timestamptz FROM target
)
INSERT INTO webhook_deliveries (id, target_id, alert_id, seq, message_id, due_at, created_at)
SELECT %(id)s, id, %(id)s, 0, %(id)s, %(now)s::timestamptz, %(now)s::timestamptz FROM target;
