-- What users want to hear of. A user has a row once it has been set up.

-- name: user_settings
SELECT selected_alerts, webhook_url, notification_enabled, updated_at
FROM user_settings
WHERE user_id = %(user_id)s;

-- name: user_subscriptions
SELECT rule_type, symbol
FROM user_alert_subscriptions
WHERE user_id = %(user_id)s
ORDER BY rule_type, symbol;

-- name: user_webhook
SELECT format, secret, enabled, disabled_reason, failures, last_success_at
FROM webhook_targets
WHERE user_id = %(user_id)s AND url = %(webhook_url)s;

-- name: change_user_settings
-- A null changes nothing, except that `forget_webhook` takes the address away.
INSERT INTO user_settings AS s (user_id, selected_alerts, webhook_url, notification_enabled)
VALUES (%(user_id)s, coalesce(%(selected_alerts)s::text[], '{}'), %(webhook_url)s::text,
        coalesce(%(notification_enabled)s::boolean, false))
ON CONFLICT (user_id) DO UPDATE SET
    selected_alerts = coalesce(%(selected_alerts)s::text[], s.selected_alerts),
    webhook_url = CASE WHEN %(forget_webhook)s THEN NULL ELSE coalesce(%(webhook_url)s::text, s.webhook_url) END,
    notification_enabled = coalesce(%(notification_enabled)s::boolean, s.notification_enabled),
    updated_at = now();

-- name: replace_user_subscriptions
WITH wanted AS (
    SELECT * FROM unnest(%(rule_types)s::text[], %(symbols)s::text[]) AS w (rule_type, symbol)
), gone AS (
    DELETE FROM user_alert_subscriptions AS u
    WHERE u.user_id = %(user_id)s
      AND NOT EXISTS (SELECT FROM wanted AS w WHERE (w.rule_type, w.symbol) = (u.rule_type, u.symbol))
)
INSERT INTO user_alert_subscriptions (user_id, rule_type, symbol)
SELECT %(user_id)s, rule_type, symbol FROM wanted
ON CONFLICT DO NOTHING;

-- name: user_document
SELECT version, document, updated_at
FROM user_documents
WHERE user_id = %(user_id)s;

-- name: store_user_document
-- No row comes back where another version is stored; version 0 stands for no document.
INSERT INTO user_documents AS stored (user_id, version, document)
SELECT %(user_id)s, 1, %(document)s::jsonb
WHERE %(version)s = 0 OR EXISTS (SELECT FROM user_documents WHERE user_id = %(user_id)s)
ON CONFLICT (user_id) DO UPDATE SET
    version = stored.version + 1,
    document = excluded.document,
    updated_at = now()
WHERE stored.version = %(version)s
RETURNING version, document, updated_at;
