-- The rules, in the fields of app.rules.rule.Rule.

-- name: all_rules
SELECT rule_type, expression, severity, cooldown_s, description, version, enabled, mode, symbols, hold_s, shadow
FROM alert_rules
ORDER BY rule_type;

-- name: rule
SELECT rule_type, expression, severity, cooldown_s, description, version, enabled, mode, symbols, hold_s, shadow
FROM alert_rules
WHERE rule_type = %(rule_type)s;

-- name: put_rule
-- A version never falls; a trigger raises it when the meaning changes under the same one.
INSERT INTO alert_rules AS old (
    rule_type, expression, severity, cooldown_s, description, version, enabled, mode, symbols, hold_s, shadow
) VALUES (
    %(rule_type)s, %(expression)s, %(severity)s, %(cooldown_s)s, %(description)s, %(version)s,
    %(enabled)s, %(mode)s, %(symbols)s, %(hold_s)s, %(shadow)s
)
ON CONFLICT (rule_type) DO UPDATE SET
    expression = excluded.expression,
    severity = excluded.severity,
    cooldown_s = excluded.cooldown_s,
    description = excluded.description,
    version = greatest(old.version, excluded.version),
    enabled = excluded.enabled,
    mode = excluded.mode,
    symbols = excluded.symbols,
    hold_s = excluded.hold_s,
    shadow = excluded.shadow
RETURNING rule_type, expression, severity, cooldown_s, description, version, enabled, mode, symbols, hold_s, shadow;

-- name: add_rule
INSERT INTO alert_rules (
    rule_type, expression, severity, cooldown_s, description, version, enabled, mode, symbols, hold_s, shadow
) VALUES (
    %(rule_type)s, %(expression)s, %(severity)s, %(cooldown_s)s, %(description)s, %(version)s,
    %(enabled)s, %(mode)s, %(symbols)s, %(hold_s)s, %(shadow)s
)
ON CONFLICT (rule_type) DO NOTHING;

-- name: enable_rule
UPDATE alert_rules SET enabled = %(enabled)s WHERE rule_type = %(rule_type)s;

-- name: delete_rule
DELETE FROM alert_rules WHERE rule_type = %(rule_type)s;

-- name: delete_other_rules
DELETE FROM alert_rules WHERE rule_type <> ALL (%(kept)s::text[]);

-- name: count_rules
SELECT count(*) FROM alert_rules;

-- name: lock_rules
LOCK TABLE alert_rules IN SHARE ROW EXCLUSIVE MODE;

-- name: rules_shipped_before
SELECT rule_type, rule FROM shipped_rules;

-- name: note_shipped_rule
INSERT INTO shipped_rules (rule_type, rule) VALUES (%(rule_type)s, %(rule)s)
ON CONFLICT (rule_type) DO UPDATE SET rule = excluded.rule;

-- name: commit_durably
SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off';

-- name: rule_versions
SELECT version, expression, mode, hold_s, stored_at
FROM alert_rule_versions
WHERE rule_type = %(rule_type)s
ORDER BY version DESC;

-- name: rule_activity
-- Along the index on rule and time: each rule's count since then, and its newest alert.
SELECT r.rule_type, counted.fired, newest.time, newest.symbol, newest.price
FROM alert_rules AS r
CROSS JOIN LATERAL (
    SELECT count(*) AS fired FROM alert_history AS h
    WHERE h.rule_type = r.rule_type AND h.time >= %(since)s AND h.time < %(until)s
) AS counted
LEFT JOIN LATERAL (
    SELECT h.time, h.symbol, h.price FROM alert_history AS h
    WHERE h.rule_type = r.rule_type AND h.time < %(until)s
    ORDER BY h.time DESC, h.id DESC
    LIMIT 1
) AS newest ON true
ORDER BY r.rule_type;
