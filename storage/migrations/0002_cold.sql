-- What cold services write themselves, in plain transactions: members, API keys, scanner devices, remembered answers.
-- Secrets are kept as hashes only; the text of a key or token begins with its tenant, so every look-up leads with tenant_id.

CREATE TABLE members (
    tenant_id text COLLATE "C" NOT NULL,
    member_id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    email text,
    phone text,
    attributes jsonb NOT NULL DEFAULT '{}',
    created_at_ms bigint NOT NULL,
    changed_at_ms bigint NOT NULL,
    PRIMARY KEY (tenant_id, member_id)
);
CREATE INDEX members_by_email ON members (tenant_id, lower(email)) WHERE email IS NOT NULL;
CREATE INDEX members_by_phone ON members (tenant_id, phone) WHERE phone IS NOT NULL;
COMMENT ON TABLE members IS 'tenant: persons known to an organisation';

CREATE TABLE api_keys (
    tenant_id text COLLATE "C" NOT NULL,
    key_id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    secret_hash bytea NOT NULL,
    scopes text[] NOT NULL,
    created_at_ms bigint NOT NULL,
    expires_at_ms bigint,
    revoked_at_ms bigint,
    PRIMARY KEY (tenant_id, key_id)
);
COMMENT ON TABLE api_keys IS 'tenant: keys of the public API';

CREATE TABLE devices (
    tenant_id text COLLATE "C" NOT NULL,
    device_id text COLLATE "C" NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    name text NOT NULL,
    token_hash bytea NOT NULL,
    created_at_ms bigint NOT NULL,
    revoked_at_ms bigint,
    PRIMARY KEY (tenant_id, device_id)
);
CREATE INDEX devices_by_event ON devices (tenant_id, event_id);
COMMENT ON TABLE devices IS 'tenant: paired scanners';

CREATE TABLE pairing_codes (
    tenant_id text COLLATE "C" NOT NULL,
    code_hash bytea NOT NULL,
    event_id text COLLATE "C" NOT NULL,
    device_name text NOT NULL,
    created_at_ms bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    used_at_ms bigint,
    PRIMARY KEY (tenant_id, code_hash)
);
COMMENT ON TABLE pairing_codes IS 'tenant: one-time codes that pair a scanner';

-- The answers of cold POSTs by request id, so that a retry gets the first one.
CREATE TABLE cold_requests (
    tenant_id text COLLATE "C" NOT NULL,
    request_id text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    status integer NOT NULL,
    response jsonb NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (tenant_id, request_id)
);
CREATE INDEX cold_requests_by_age ON cold_requests (tenant_id, at_ms);
COMMENT ON TABLE cold_requests IS 'tenant: answers of cold POSTs, by request id';
