-- Targets that ask to be sent less are paced, without their messages using up attempts.
-- depends: 0005_webhooks

ALTER TABLE webhook_targets ADD COLUMN paced integer NOT NULL DEFAULT 0 CHECK (paced >= 0);

COMMENT ON COLUMN webhook_targets.paced IS 'rounds in a row in which it asked to wait (Retry-After) and took nothing';
