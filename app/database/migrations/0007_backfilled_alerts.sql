-- Alerts of history that was being filled are told apart.
-- depends: 0006_webhook_pacing

ALTER TABLE alert_history ADD COLUMN backfilled boolean NOT NULL DEFAULT false;

COMMENT ON COLUMN alert_history.backfilled IS 'about a time long past when it was published: sent only to who asks for such';
