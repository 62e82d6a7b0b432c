-- Rules that change at run time: all that a rule says, what cannot be a rule refused here already, and word to
-- every worker when something has changed.
-- depends: 0003_users_and_webhooks

ALTER TABLE alert_rules
    ADD COLUMN mode text CHECK (mode IN ('live', 'close')),
    ADD COLUMN symbols text[] CHECK (cardinality(symbols) BETWEEN 1 AND 5000),
    ADD COLUMN hold_s integer NOT NULL DEFAULT 0 CHECK (hold_s BETWEEN 0 AND 86400),
    ADD CHECK (rule_type ~ '^[a-z][a-z0-9_]{0,63}$'),
    ADD CHECK (severity IN ('critical', 'high', 'medium', 'low', 'info')),
    ADD CHECK (cooldown_s <= 604800),
    ADD CHECK (char_length(description) <= 1000),
    ADD CHECK (char_length(expression) BETWEEN 1 AND 2000);

COMMENT ON COLUMN alert_rules.version IS
    'part of the id of an alert; raised by itself when expression, mode or hold_s change';
COMMENT ON COLUMN alert_rules.mode IS 'live, close, or null for the setting of the screener';
COMMENT ON COLUMN alert_rules.symbols IS 'the only symbols the rule looks at; null for all';
COMMENT ON COLUMN alert_rules.hold_s IS 'how long the condition must have been true; 0 for at once';

-- What the screener shipped when it last brought the schema up to date: tells an edited rule from an old one,
-- and a deleted one from a new one.
CREATE TABLE shipped_rules (
    rule_type text COLLATE "C" PRIMARY KEY,
    rule jsonb NOT NULL
);

CREATE FUNCTION mark_changed_rule() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.version <= OLD.version
        AND (NEW.expression, NEW.mode, NEW.hold_s) IS DISTINCT FROM (OLD.expression, OLD.mode, OLD.hold_s)
    THEN
        NEW.version := OLD.version + 1;
    END IF;
    IF NEW IS DISTINCT FROM OLD THEN
        NEW.updated_at := now();
    END IF;
    RETURN NEW;
END
$$;

CREATE TRIGGER mark_changed_rule BEFORE UPDATE ON alert_rules
    FOR EACH ROW EXECUTE FUNCTION mark_changed_rule();

-- One channel a schema: screeners that share a database do not wake each other.
CREATE FUNCTION tell_of_changed_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, '');
    RETURN NULL;
END
$$;

CREATE TRIGGER tell_of_changed_rules AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON alert_rules
    FOR EACH STATEMENT EXECUTE FUNCTION tell_of_changed_rules();
