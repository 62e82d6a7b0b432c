-- The text of every version of a rule, also of rules changed by plain SQL, so that a person can compare them.
-- depends: 0011_rollups

CREATE TABLE alert_rule_versions (
    rule_type text COLLATE "C" NOT NULL,
    version integer NOT NULL,
    expression text NOT NULL,
    mode text,
    hold_s integer NOT NULL,
    stored_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (rule_type, version)
);

COMMENT ON TABLE alert_rule_versions IS 'what gave a rule its version; kept by a trigger, also when the rule is deleted';

INSERT INTO alert_rule_versions (rule_type, version, expression, mode, hold_s, stored_at)
SELECT rule_type, version, expression, mode, hold_s, updated_at FROM alert_rules;

-- As the owner: who writes rules needs no right to this table. The newest hundred of a rule stay.
CREATE FUNCTION keep_rule_version() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    INSERT INTO alert_rule_versions AS kept (rule_type, version, expression, mode, hold_s)
    VALUES (NEW.rule_type, NEW.version, NEW.expression, NEW.mode, NEW.hold_s)
    ON CONFLICT (rule_type, version) DO UPDATE
    SET expression = excluded.expression, mode = excluded.mode, hold_s = excluded.hold_s, stored_at = now()
    WHERE (kept.expression, kept.mode, kept.hold_s)
        IS DISTINCT FROM (excluded.expression, excluded.mode, excluded.hold_s);
    DELETE FROM alert_rule_versions AS known
    WHERE known.rule_type = NEW.rule_type AND known.version < (
        SELECT min(version) FROM (
            SELECT version FROM alert_rule_versions WHERE rule_type = NEW.rule_type ORDER BY version DESC LIMIT 100
        ) AS newest
    );
    RETURN NULL;
END
$$;

CREATE TRIGGER keep_rule_version AFTER INSERT OR UPDATE ON alert_rules
    FOR EACH ROW EXECUTE FUNCTION keep_rule_version();

-- Who changes rules may read their versions.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT a.grantee::regrole AS role
        FROM pg_class AS c, aclexplode(c.relacl) AS a
        WHERE c.oid = 'alert_rules'::regclass AND a.grantee <> 0 AND a.grantee <> c.relowner
          AND a.privilege_type = 'UPDATE'
    LOOP
        EXECUTE format('GRANT SELECT ON alert_rule_versions TO %s', granted.role);
    END LOOP;
END
$$;
