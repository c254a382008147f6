-- Points in depth: a wallet beside the points, pending awards, holds, and the organisation's side of the double entry.

ALTER TABLE cards ADD COLUMN wallet bigint NOT NULL DEFAULT 0;
ALTER TABLE lots ADD COLUMN available_from_ms bigint NOT NULL DEFAULT 0;

-- `other_after` is the balance of the card's other account, so any one entry tells both.
ALTER TABLE ledger ADD COLUMN account text NOT NULL DEFAULT 'points';
ALTER TABLE ledger ADD COLUMN other_after bigint NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN held bigint NOT NULL DEFAULT 0;
ALTER TABLE ledger ADD COLUMN due_ms bigint NOT NULL DEFAULT 0;

-- Every hold, as it is or as it ended: `state` is "open" or the kind of the entry that ended it.
CREATE TABLE holds (
    tenant_id text COLLATE "C" NOT NULL,
    card_id text COLLATE "C" NOT NULL,
    entry_seq bigint NOT NULL,
    account text NOT NULL,
    held bigint NOT NULL,
    captured bigint NOT NULL,
    lapses_at_ms bigint NOT NULL,
    state text NOT NULL,
    parts text NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, card_id, entry_seq)
);
CREATE INDEX holds_open ON holds (tenant_id, card_id) WHERE state = 'open';
COMMENT ON TABLE holds IS 'tenant: what is put aside on cards';

-- The organisation's accounts (actors.accounts). Entries from before count by the same table.
CREATE TABLE tenant_accounts (
    tenant_id text COLLATE "C" NOT NULL,
    account text COLLATE "C" NOT NULL,
    balance bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, account)
) WITH (fillfactor = 10);
COMMENT ON TABLE tenant_accounts IS 'tenant: what was drawn on the organisation';
INSERT INTO tenant_accounts (tenant_id, account, balance, position)
SELECT tenant_id, drawn_on, -sum(amount), max(position)
FROM (
    SELECT tenant_id, amount, position, CASE
        WHEN kind = 'award' OR (kind = 'reverse' AND amount < 0) THEN 'points:issued'
        WHEN kind = 'expire' THEN 'points:expired'
        ELSE 'points:redeemed' END AS drawn_on
    FROM ledger WHERE amount <> 0
) AS entries
GROUP BY tenant_id, drawn_on;
