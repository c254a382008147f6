-- Accounts: persons who sign in, their sessions, the organisations they take part in, and the keys that sign their tokens.
--
-- Two more classes: "account" (by account_id), and "email" (by email) for what must be found, and be unique, before anybody
-- knows which account it is. An email here is always in its normal form (gateway/identity/emails.py). What has no secret in
-- it is kept as it is; of secrets there are hashes (passwords, mailed tokens), derivation seeds (sessions) or sealed copies
-- (signing keys), none of which is worth anything without the master secret or a guess.

CREATE TABLE accounts (
    account_id text COLLATE "C" NOT NULL PRIMARY KEY,
    email text COLLATE "C" NOT NULL,
    name text NOT NULL,
    password_hash text NOT NULL,
    platform_role text NOT NULL DEFAULT '' CHECK (platform_role IN ('', 'superadmin')),
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'suspended', 'closed')),
    locale text NOT NULL DEFAULT '',
    verified_at_ms bigint,
    created_at_ms bigint NOT NULL,
    changed_at_ms bigint NOT NULL
);
COMMENT ON TABLE accounts IS 'account: persons who sign in';

-- Whose an address is: the one place that keeps it unique, whatever the shard of the account.
CREATE TABLE account_emails (
    email text COLLATE "C" NOT NULL PRIMARY KEY,
    account_id text COLLATE "C" NOT NULL
);
COMMENT ON TABLE account_emails IS 'email: address to account';

-- Sign-ins in a row that failed, for addresses that have an account and for those that have none alike. `origin` is "" for
-- strangers all together, or the network address of one from where this account has signed in before.
CREATE TABLE login_attempts (
    email text COLLATE "C" NOT NULL,
    origin text COLLATE "C" NOT NULL,
    failures integer NOT NULL,
    at_ms bigint NOT NULL,
    PRIMARY KEY (email, origin)
);
CREATE INDEX login_attempts_by_age ON login_attempts (at_ms);
COMMENT ON TABLE login_attempts IS 'email: failed sign-ins in a row';

-- A family of refresh tokens. The token in force is the one of `generation`, derived from the master secret and `seed`.
-- `org_id` is the organisation that was chosen for it last, or "".
CREATE TABLE sessions (
    account_id text COLLATE "C" NOT NULL,
    session_id text COLLATE "C" NOT NULL,
    seed bytea NOT NULL,
    generation integer NOT NULL,
    rotated_at_ms bigint NOT NULL,
    created_at_ms bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    org_id text COLLATE "C" NOT NULL,
    ended_at_ms bigint,
    ended_because text,
    origin text COLLATE "C" NOT NULL,
    user_agent text NOT NULL,
    PRIMARY KEY (account_id, session_id)
);
COMMENT ON TABLE sessions IS 'account: sessions';

-- Tokens sent by mail, each good for one use.
CREATE TABLE mail_tokens (
    account_id text COLLATE "C" NOT NULL,
    token_hash bytea NOT NULL,
    purpose text NOT NULL CHECK (purpose IN ('verify', 'reset')),
    created_at_ms bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    used_at_ms bigint,
    used_from text COLLATE "C",
    PRIMARY KEY (account_id, token_hash)
);
COMMENT ON TABLE mail_tokens IS 'account: tokens sent by mail';

-- Which part an account has in an organisation; `member_id` is set where it is linked to a member of it.
CREATE TABLE memberships (
    account_id text COLLATE "C" NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    role text NOT NULL CHECK (role IN ('org_admin', 'staff', 'member')),
    member_id text COLLATE "C",
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'ended')),
    joined_at_ms bigint NOT NULL,
    changed_at_ms bigint NOT NULL,
    PRIMARY KEY (account_id, tenant_id)
);
CREATE INDEX memberships_by_tenant ON memberships (tenant_id, account_id);
CREATE INDEX memberships_by_member ON memberships (tenant_id, member_id) WHERE member_id IS NOT NULL;
COMMENT ON TABLE memberships IS 'account: parts that accounts have in organisations';

-- The key that signs is the one with the latest active_from_ms that has come. `sealed` is the private key, encrypted.
CREATE TABLE signing_keys (
    key_id text COLLATE "C" NOT NULL PRIMARY KEY,
    sealed bytea NOT NULL,
    created_at_ms bigint NOT NULL,
    active_from_ms bigint NOT NULL,
    revoked_at_ms bigint
);
COMMENT ON TABLE signing_keys IS 'local: keys that sign access tokens';
