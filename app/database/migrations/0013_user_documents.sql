-- What the page keeps for each person: lists, saved screens, mutes, quiet hours, columns.
-- depends: 0012_rule_versions

CREATE TABLE user_documents (
    user_id text PRIMARY KEY,
    version integer NOT NULL CHECK (version > 0),
    document jsonb NOT NULL CHECK (jsonb_typeof(document) = 'object'),
    updated_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON COLUMN user_documents.version IS 'rises by one with each change: who changes a version that is not the stored one is refused';

-- Who changes the settings of users may keep their documents.
DO $$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT DISTINCT a.grantee::regrole AS role
        FROM pg_class AS c, aclexplode(c.relacl) AS a
        WHERE c.oid = 'user_settings'::regclass AND a.grantee <> 0 AND a.grantee <> c.relowner
          AND a.privilege_type = 'UPDATE'
    LOOP
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON user_documents TO %s', granted.role);
    END LOOP;
END
$$;
