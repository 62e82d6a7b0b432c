-- Where alerts are sent over HTTP, and the outbox of what is to be sent there.
-- depends: 0003_users_and_webhooks

-- Nothing ever wrote to the first form of this table.
DROP TABLE webhook_deliveries;

CREATE TABLE webhook_targets (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    user_id text UNIQUE REFERENCES user_settings ON DELETE CASCADE,
    from_settings boolean NOT NULL DEFAULT false,
    name text NOT NULL DEFAULT '',
    url text NOT NULL,
    format text NOT NULL CHECK (format IN ('json', 'discord', 'slack', 'telegram')),
    secret text NOT NULL,
    previous_secret text,
    previous_secret_until timestamptz,
    rule_types text[] NOT NULL DEFAULT '{}',
    symbols text[] NOT NULL DEFAULT '{}',
    severities text[] NOT NULL DEFAULT '{}',
    digest_s integer NOT NULL DEFAULT 0 CHECK (digest_s BETWEEN 0 AND 3600),
    enabled boolean NOT NULL DEFAULT true,
    disabled_reason text CHECK (disabled_reason IN ('off', 'bad_url', 'gone', 'exhausted')),
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    held_until timestamptz,
    last_success_at timestamptz,
    active_since timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    CHECK (enabled = (disabled_reason IS NULL)),
    CHECK ((previous_secret IS NULL) = (previous_secret_until IS NULL))
);

CREATE UNIQUE INDEX webhook_targets_from_settings ON webhook_targets (from_settings) WHERE from_settings;

COMMENT ON COLUMN webhook_targets.from_settings IS 'the one that the deployment names in SCREENER_WEBHOOK_URL';
COMMENT ON COLUMN webhook_targets.user_id IS 'null: a target of the operators; else the webhook_url of these settings';
COMMENT ON COLUMN webhook_targets.rule_types IS 'rule_types, symbols, severities: empty lets all pass; not used for users';
COMMENT ON COLUMN webhook_targets.digest_s IS '0: a message for each alert; else one for all alerts of so many seconds';
COMMENT ON COLUMN webhook_targets.disabled_reason IS
    'off: by its owner; gone: it answered 410; exhausted: nothing got through in a whole round of retries';
COMMENT ON COLUMN webhook_targets.failures IS 'failed attempts since the last that succeeded';
COMMENT ON COLUMN webhook_targets.held_until IS 'its Retry-After: nothing is sent before';
COMMENT ON COLUMN webhook_targets.active_since IS 'alerts published earlier are not sent';

CREATE TABLE webhook_alerts (
    alert_id uuid PRIMARY KEY,
    seq bigint NOT NULL,
    alert json NOT NULL,
    kept_at timestamptz NOT NULL
);

COMMENT ON COLUMN webhook_alerts.kept_at IS 'when it was last found to have deliveries';

CREATE TABLE webhook_deliveries (
    id uuid PRIMARY KEY,
    target_id uuid NOT NULL REFERENCES webhook_targets ON DELETE CASCADE,
    alert_id uuid NOT NULL REFERENCES webhook_alerts,
    seq bigint NOT NULL,
    message_id uuid,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'dead')),
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    due_at timestamptz,
    lease_id uuid,
    leased_until timestamptz,
    response_status integer,
    error text,
    created_at timestamptz NOT NULL,
    settled_at timestamptz,
    UNIQUE (target_id, alert_id),
    CHECK ((status = 'pending') = (settled_at IS NULL))
);

COMMENT ON COLUMN webhook_deliveries.message_id IS
    'the delivery that leads the message this one travels in: itself unless in a digest; null while a digest gathers';
COMMENT ON COLUMN webhook_deliveries.due_at IS 'when the message is tried next; null for those that another one leads';
COMMENT ON COLUMN webhook_deliveries.lease_id IS 'who sends it, until leased_until; leaders only';

CREATE INDEX webhook_deliveries_due ON webhook_deliveries (target_id, due_at, seq)
WHERE status = 'pending' AND due_at IS NOT NULL;
CREATE INDEX webhook_deliveries_gathering ON webhook_deliveries (due_at)
WHERE status = 'pending' AND message_id IS NULL;
CREATE INDEX webhook_deliveries_message ON webhook_deliveries (message_id);
CREATE INDEX webhook_deliveries_alert ON webhook_deliveries (alert_id);
CREATE INDEX webhook_deliveries_settled ON webhook_deliveries (settled_at) WHERE status <> 'pending';

CREATE INDEX webhook_deliveries_dead ON webhook_deliveries (target_id) WHERE status = 'dead';

CREATE TABLE webhook_attempts (
    message_id uuid NOT NULL REFERENCES webhook_deliveries ON DELETE CASCADE,
    attempt integer NOT NULL,
    at timestamptz NOT NULL,
    duration_ms integer NOT NULL,
    response_status integer,
    outcome text NOT NULL
);

CREATE INDEX webhook_attempts_message ON webhook_attempts (message_id, at);

COMMENT ON COLUMN webhook_attempts.outcome IS 'delivered, or the reason of the failure';
