-- Members in full: profile, consents with their history, the schema of their attributes, search, import from CSV.

-- Search needs extensions that come with Postgres and that the database's owner may create. They must be where names are
-- looked up without a schema, for operators and operator classes are found there only.
DO $$
DECLARE
    wanted text;
    found text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['unaccent', 'pg_trgm', 'btree_gin'] LOOP
        BEGIN
            EXECUTE format('CREATE EXTENSION IF NOT EXISTS %I', wanted);
        EXCEPTION WHEN insufficient_privilege OR undefined_file OR feature_not_supported THEN
            RAISE EXCEPTION 'searching members needs the Postgres extension %, which could not be created: %. %',
                wanted, SQLERRM, 'Have the database''s owner or a superuser run CREATE EXTENSION (contrib package).';
        END;
        SELECT n.nspname INTO found FROM pg_extension AS e JOIN pg_namespace AS n ON n.oid = e.extnamespace
            WHERE e.extname = wanted;
        IF found <> ALL (current_schemas(true)) THEN
            RAISE EXCEPTION 'the Postgres extension % is in schema %, which is not on the search path: add it there',
                wanted, found;
        END IF;
        IF wanted = 'unaccent' THEN
            -- How text is compared: without accents (đ is d, too), case and surplus blanks. The body is bound now, so no
            -- search path of a caller changes what it means; that makes IMMUTABLE true, as long as the rules of the
            -- extension stay as they are (after an upgrade that changes them: REINDEX members).
            EXECUTE format(
                'CREATE FUNCTION mv_fold(value text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE '
                'RETURN btrim(regexp_replace(lower(%1$I.unaccent(%2$L::regdictionary, normalize(value, NFKC))), '
                '''\s+'', '' '', ''g''))',
                found, format('%I.unaccent', found));
        END IF;
    END LOOP;
END
$$;
CREATE FUNCTION mv_digits(value text) RETURNS text LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN regexp_replace(value, '[^0-9]', '', 'g');

-- `version` counts changes from 1. `consents` is what is in force now: {flag: {given, at_ms, source}}. `cards_behind`: the
-- name changed, and cards may still carry the one before (gateway/members/names.py sees to it). Whoever is erased keeps id
-- and times only, and is not searched for. Each word of `search_text` follows a blank, the first one, too.
ALTER TABLE members
    ADD COLUMN external_id text COLLATE "C",
    ADD COLUMN birthday date,
    ADD COLUMN locale text,
    ADD COLUMN consents jsonb NOT NULL DEFAULT '{}',
    ADD COLUMN version bigint NOT NULL DEFAULT 1,
    ADD COLUMN erased_at_ms bigint,
    ADD COLUMN cards_behind boolean NOT NULL DEFAULT false,
    ADD COLUMN phone_digits text COLLATE "C" GENERATED ALWAYS AS (mv_digits(phone)) STORED,
    ADD COLUMN folded_name text COLLATE "C"
        GENERATED ALWAYS AS (CASE WHEN erased_at_ms IS NULL THEN mv_fold(name) END) STORED,
    ADD COLUMN search_text text COLLATE "C" GENERATED ALWAYS AS (CASE WHEN erased_at_ms IS NULL THEN
        ' ' || mv_fold(name) || coalesce(' ' || lower(email), '') || coalesce(' ' || mv_digits(phone), '') END) STORED;
CREATE UNIQUE INDEX members_by_external_id ON members (tenant_id, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX members_by_name ON members (tenant_id, folded_name, member_id);
DROP INDEX members_by_phone;
CREATE INDEX members_by_digits ON members (tenant_id, phone_digits) WHERE phone_digits IS NOT NULL;
CREATE INDEX members_behind ON members (tenant_id, member_id) WHERE cards_behind;
-- A short pending list: every search reads through it, but without one an import of members takes three times as long.
CREATE INDEX members_search ON members USING gin (tenant_id, search_text gin_trgm_ops) WITH (gin_pending_list_limit = 256);

-- Every consent ever given or withdrawn, with the member's version that it made. Append-only, like admin_log.
CREATE TABLE member_consents (
    tenant_id text COLLATE "C" NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    flag text COLLATE "C" NOT NULL,
    is_given boolean NOT NULL,
    at_ms bigint NOT NULL,
    source text NOT NULL,
    actor text NOT NULL,
    PRIMARY KEY (tenant_id, member_id, version, flag)
);
COMMENT ON TABLE member_consents IS 'tenant: consents of members, given and withdrawn';
CREATE TRIGGER member_consents_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON member_consents
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- As it was sent, for its order matters to people; an organisation without a row takes any attributes.
CREATE TABLE member_schemas (
    tenant_id text COLLATE "C" NOT NULL PRIMARY KEY,
    schema text NOT NULL,
    version bigint NOT NULL,
    changed_at_ms bigint NOT NULL
);
COMMENT ON TABLE member_schemas IS 'tenant: JSON Schemas of members'' attributes';

-- An import from CSV. Whoever holds the lease works on it; `done` records are in, counted and reported, in the transaction
-- that moved it. Records count from 0 without blank lines, rows of a report as a spreadsheet shows them.
CREATE TABLE member_imports (
    tenant_id text COLLATE "C" NOT NULL,
    import_id text COLLATE "C" NOT NULL,
    state text NOT NULL CHECK (state IN ('queued', 'running', 'done', 'cancelled', 'failed')),
    mode text NOT NULL CHECK (mode IN ('create', 'upsert')),
    actor text NOT NULL,
    bytes bigint NOT NULL,
    rows bigint NOT NULL,
    done bigint NOT NULL DEFAULT 0,
    created bigint NOT NULL DEFAULT 0,
    updated bigint NOT NULL DEFAULT 0,
    unchanged bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT '',
    lease_holder text COLLATE "C" NOT NULL DEFAULT '',
    lease_until_ms bigint NOT NULL DEFAULT 0,
    created_at_ms bigint NOT NULL,
    finished_at_ms bigint,
    PRIMARY KEY (tenant_id, import_id)
);
-- One at a time for an organisation; also how open ones are found.
CREATE UNIQUE INDEX member_imports_open ON member_imports (tenant_id) WHERE state IN ('queued', 'running');
COMMENT ON TABLE member_imports IS 'tenant: imports of members';

-- The file, in pieces; gone when the import has ended.
CREATE TABLE member_import_parts (
    tenant_id text COLLATE "C" NOT NULL,
    import_id text COLLATE "C" NOT NULL,
    part integer NOT NULL,
    body bytea NOT NULL,
    PRIMARY KEY (tenant_id, import_id, part)
);
COMMENT ON TABLE member_import_parts IS 'tenant: files of imports under way';

-- Why rows failed; without their values, which are personal.
CREATE TABLE member_import_errors (
    tenant_id text COLLATE "C" NOT NULL,
    import_id text COLLATE "C" NOT NULL,
    row bigint NOT NULL,
    place integer NOT NULL,
    column_name text NOT NULL,
    reason text NOT NULL,
    PRIMARY KEY (tenant_id, import_id, row, place)
);
COMMENT ON TABLE member_import_errors IS 'tenant: rows of imports that failed';

-- Refusals by member, for reputations. Admitted scans, nearly all of them, are not in it.
CREATE INDEX scans_refused ON scans (tenant_id, member_id, reason) WHERE reason <> '' AND member_id <> '';
