-- Organisations beyond what the engine keeps: how many cards count towards the plan, profile and state, whose they are,
-- invitations, and what API keys need for rotation.

-- Cards issued since there are plans and not revoked, from the facts; those from before do not count.
ALTER TABLE tenants ADD COLUMN cards bigint NOT NULL DEFAULT 0;

-- An organisation without a row here is open, has no owner and an empty profile. Time zone, points and plan are the
-- engine's (tenants.settings). `owner_id` is the account that opened it, "" where that was the platform. The row is also
-- what is locked while people's roles change, so that an organisation never loses its last admin.
CREATE TABLE org_profiles (
    tenant_id text COLLATE "C" NOT NULL PRIMARY KEY,
    owner_id text COLLATE "C" NOT NULL DEFAULT '',
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'suspended', 'closed')),
    display_name text NOT NULL DEFAULT '',
    logo_url text NOT NULL DEFAULT '',
    primary_color text NOT NULL DEFAULT '',
    accent_color text NOT NULL DEFAULT '',
    support_email text NOT NULL DEFAULT '',
    locale text NOT NULL DEFAULT '',
    allowed_origins text[] NOT NULL DEFAULT '{}',
    version bigint NOT NULL DEFAULT 1,
    created_at_ms bigint NOT NULL,
    changed_at_ms bigint NOT NULL
);
COMMENT ON TABLE org_profiles IS 'tenant: branding, state and owner of organisations';

-- The organisations that an account opened, for the quota of its plan: decided with the account's row locked.
CREATE TABLE owned_orgs (
    account_id text COLLATE "C" NOT NULL,
    tenant_id text COLLATE "C" NOT NULL,
    plan text NOT NULL CHECK (plan IN ('free', 'premium')),
    is_closed boolean NOT NULL DEFAULT false,
    created_at_ms bigint NOT NULL,
    PRIMARY KEY (account_id, tenant_id)
);
COMMENT ON TABLE owned_orgs IS 'account: organisations that an account opened';

-- A token by mail that makes whoever has the address, and signs in, a part of the organisation. Used once.
CREATE TABLE invitations (
    tenant_id text COLLATE "C" NOT NULL,
    invitation_id text COLLATE "C" NOT NULL,
    email text COLLATE "C" NOT NULL,
    role text NOT NULL CHECK (role IN ('org_admin', 'staff', 'member')),
    member_id text COLLATE "C",
    token_hash bytea NOT NULL,
    invited_by text COLLATE "C" NOT NULL,
    created_at_ms bigint NOT NULL,
    expires_at_ms bigint NOT NULL,
    accepted_at_ms bigint,
    accepted_by text COLLATE "C",
    revoked_at_ms bigint,
    PRIMARY KEY (tenant_id, invitation_id)
);
COMMENT ON TABLE invitations IS 'tenant: invitations to take part in an organisation';

-- After a rotation the secret before it works until `previous_until_ms`.
ALTER TABLE api_keys ADD COLUMN previous_hash bytea;
ALTER TABLE api_keys ADD COLUMN previous_until_ms bigint;
ALTER TABLE api_keys ADD COLUMN rotated_at_ms bigint;
ALTER TABLE api_keys ADD COLUMN last_used_at_ms bigint;

-- The log of administrative acts is read newest first, as a whole or of one actor or target.
CREATE INDEX admin_log_by_actor ON admin_log (tenant_id, actor, entry_id);
CREATE INDEX admin_log_by_target ON admin_log (tenant_id, target, entry_id);
