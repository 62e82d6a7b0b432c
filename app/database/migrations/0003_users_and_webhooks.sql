-- What each user wants to hear of, and what was sent where.
-- depends: 0002_alerts

CREATE TABLE user_settings (
    user_id text PRIMARY KEY,
    selected_alerts text[] NOT NULL DEFAULT '{}',
    webhook_url text,
    notification_enabled boolean NOT NULL DEFAULT false,
    updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE user_alert_subscriptions (
    user_id text NOT NULL REFERENCES user_settings ON DELETE CASCADE,
    rule_type text COLLATE "C" NOT NULL,
    symbol text COLLATE "C" NOT NULL DEFAULT '*',
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (user_id, rule_type, symbol)
);

COMMENT ON COLUMN user_alert_subscriptions.symbol IS '* stands for every symbol';

CREATE TABLE webhook_deliveries (
    alert_id uuid NOT NULL,
    user_id text NOT NULL,
    url text NOT NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'delivered', 'failed')),
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at timestamptz,
    response_status integer,
    error text,
    created_at timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz,
    PRIMARY KEY (alert_id, user_id)
);

CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_attempt_at) WHERE status = 'pending';
