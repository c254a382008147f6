-- Batches of cards: many are issued or changed by one request, row by row behind it, by whichever gateway holds the lease.

-- `done` rows are decided, counted and told; of those from there to `asked` the engine may have decided some already.
CREATE TABLE card_batches (
    tenant_id text COLLATE "C" NOT NULL,
    batch_id text COLLATE "C" NOT NULL,
    state text NOT NULL CHECK (state IN ('queued', 'running', 'done', 'cancelled', 'failed')),
    act text NOT NULL CHECK (act IN ('issue', 'suspend', 'resume', 'revoke', 'reissue', 'renew')),
    note text NOT NULL,
    actor text NOT NULL,
    rows bigint NOT NULL,
    asked bigint NOT NULL DEFAULT 0,
    done bigint NOT NULL DEFAULT 0,
    succeeded bigint NOT NULL DEFAULT 0,
    failed bigint NOT NULL DEFAULT 0,
    reason text NOT NULL DEFAULT '',
    is_cancelled boolean NOT NULL DEFAULT false,
    lease_holder text COLLATE "C" NOT NULL DEFAULT '',
    lease_until_ms bigint NOT NULL DEFAULT 0,
    -- When it was last taken up, and how far it was then: what it has done since tells its rate.
    taken_at_ms bigint NOT NULL DEFAULT 0,
    taken_done bigint NOT NULL DEFAULT 0,
    created_at_ms bigint NOT NULL,
    finished_at_ms bigint,
    PRIMARY KEY (tenant_id, batch_id)
);
-- One at a time for an organisation; also how open ones are found.
CREATE UNIQUE INDEX card_batches_open ON card_batches (tenant_id) WHERE state IN ('queued', 'running');
COMMENT ON TABLE card_batches IS 'tenant: batches of cards';

-- `place` counts the rows of a batch from 0 without holes, `row` is the number that people are told. `target` is the
-- member or card that it is about; the rest says what is asked, then what came of it: a card, or a code with its reason.
CREATE TABLE card_batch_rows (
    tenant_id text COLLATE "C" NOT NULL,
    batch_id text COLLATE "C" NOT NULL,
    place bigint NOT NULL,
    row bigint NOT NULL,
    target text COLLATE "C" NOT NULL,
    tier text NOT NULL,
    valid_from_ms bigint NOT NULL,
    valid_until_ms bigint NOT NULL,
    column_name text NOT NULL DEFAULT '',
    code text NOT NULL DEFAULT '',
    reason text NOT NULL DEFAULT '',
    card_id text COLLATE "C" NOT NULL DEFAULT '',
    member_id text COLLATE "C" NOT NULL DEFAULT '',
    number bigint NOT NULL DEFAULT 0,
    serial bigint NOT NULL DEFAULT 0,
    at_ms bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, batch_id, place)
);
COMMENT ON TABLE card_batch_rows IS 'tenant: rows of batches of cards';
