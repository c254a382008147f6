-- Who administered what. Append-only: nobody, not even the application, may change or take away a line.

CREATE TABLE admin_log (
    tenant_id text COLLATE "C" NOT NULL,
    entry_id text COLLATE "C" NOT NULL,
    at_ms bigint NOT NULL,
    actor text NOT NULL,
    action text NOT NULL,
    target text NOT NULL,
    detail jsonb NOT NULL,
    request_id text NOT NULL,
    PRIMARY KEY (tenant_id, entry_id)
);
COMMENT ON TABLE admin_log IS 'tenant: administrative acts; what concerns no organisation has tenant ""';

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER admin_log_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON admin_log
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
