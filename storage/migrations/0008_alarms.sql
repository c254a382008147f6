-- When actors want to be woken (actors.alarms). Points that expire have their alarms from here on, those of before, too.

CREATE TABLE alarms (
    tenant_id text COLLATE "C" NOT NULL,
    kind text COLLATE "C" NOT NULL,
    entity_id text COLLATE "C" NOT NULL,
    partition_id integer NOT NULL,
    wake_ms bigint NOT NULL,
    position bigint NOT NULL,
    PRIMARY KEY (tenant_id, kind, entity_id)
);
CREATE INDEX alarms_due ON alarms (partition_id, wake_ms) WHERE wake_ms > 0;
COMMENT ON TABLE alarms IS 'tenant: when actors want to be woken';
