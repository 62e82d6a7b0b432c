-- Alerts that fired, and the rules that fire them.
-- depends: 0001_market_data

CREATE TABLE alert_history (
    id uuid PRIMARY KEY,
    time timestamptz NOT NULL,
    seq bigint NOT NULL,
    symbol text COLLATE "C" NOT NULL,
    rule_type text COLLATE "C" NOT NULL,
    rule_version integer NOT NULL,
    severity text COLLATE "C" NOT NULL,
    description text NOT NULL,
    price double precision NOT NULL,
    metadata jsonb NOT NULL,
    timings jsonb NOT NULL
);

CREATE INDEX alert_history_newest ON alert_history (time DESC, id DESC);
CREATE INDEX alert_history_symbol_newest ON alert_history (symbol, time DESC, id DESC);
CREATE INDEX alert_history_rule_newest ON alert_history (rule_type, time DESC, id DESC);
CREATE INDEX alert_history_seq ON alert_history (seq);

COMMENT ON COLUMN alert_history.seq IS 'offset of the alert in the Kafka topic alerts, the cursor of live clients';

CREATE TABLE alert_rules (
    rule_type text COLLATE "C" PRIMARY KEY,
    version integer NOT NULL DEFAULT 1 CHECK (version >= 1),
    expression text NOT NULL,
    severity text NOT NULL,
    cooldown_s integer NOT NULL DEFAULT 300 CHECK (cooldown_s >= 0),
    description text NOT NULL DEFAULT '',
    enabled boolean NOT NULL DEFAULT true,
    updated_at timestamptz NOT NULL DEFAULT now()
);
