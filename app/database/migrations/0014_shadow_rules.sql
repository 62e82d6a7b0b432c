-- Rules that only try out: their alerts are stored and marked, and sent to nobody.
-- depends: 0013_user_documents

ALTER TABLE alert_rules ADD COLUMN shadow boolean NOT NULL DEFAULT false;
ALTER TABLE alert_history ADD COLUMN shadow boolean NOT NULL DEFAULT false;

COMMENT ON COLUMN alert_rules.shadow IS 'alerts are stored, and sent to nobody';
COMMENT ON COLUMN alert_history.shadow IS 'of a rule that only tried out when it fired: sent to nobody';
