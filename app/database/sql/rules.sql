-- The rules, in the fields of app.rules.rule.Rule.

-- name: all_rules
SELECT rule_type, expression, severity, cooldown_s, description, version, enabled, mode, symbols, hold_s
FROM alert_rules
ORDER BY rule_type;

-- name: rule
SELECT rule_type, expression, severity, cooldown_s, description, version, enabled, mode, symbols, hold_s
FROM alert_rules
WHERE rule_type = %(rule_type)s;

-- name: put_rule
-- A version never falls; a trigger raises it when the meaning changes under the same one.
INSERT INTO alert_rules AS old (
    rule_type, expression, severity, cooldown_s, description, version, enabled, mode, symbols, hold_s
) VALUES (
    %(rule_type)s, %(expression)s, %(severity)s, %(cooldown_s)s, %(description)s, %(version)s,
    %(enabled)s, %(mode)s, %(symbols)s, %(hold_s)s
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
    hold_s = excluded.hold_s
RETURNING rule_type, expression, severity, cooldown_s, description, version, enabled, mode, symbols, hold_s;

-- name: add_rule
INSERT INTO alert_rules (
    rule_type, expression, severity, cooldown_s, description, version, enabled, mode, symbols, hold_s
) VALUES (
    %(rule_type)s, %(expression)s, %(severity)s, %(cooldown_s)s, %(description)s, %(version)s,
    %(enabled)s, %(mode)s, %(symbols)s, %(hold_s)s
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
