-- One row: the current term, or the last one. `term` is a key, so that an election waits for whoever holds the row
-- FOR KEY SHARE; a renewal changes no key and does not wait.
CREATE TABLE leadership (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    term bigint NOT NULL UNIQUE,
    holder text NOT NULL,
    start_time timestamptz NOT NULL,
    expire_time timestamptz NOT NULL,
    last_pass_time timestamptz
) WITH (fillfactor = 50);
INSERT INTO leadership (term, holder, start_time, expire_time) VALUES (0, '', 'epoch', 'epoch');

-- One operation type of one table under the policy that governs it, and where its schedule stands.
CREATE TABLE targets (
    catalog text COLLATE "C" NOT NULL REFERENCES catalogs ON DELETE CASCADE,
    fence_key text COLLATE "C" NOT NULL,
    type text NOT NULL,
    mode text NOT NULL,
    policy text COLLATE "C" NOT NULL,
    policy_generation bigint NOT NULL,
    policy_create_time timestamptz NOT NULL,
    since timestamptz NOT NULL,
    slot timestamptz,
    due timestamptz,
    deferred boolean NOT NULL,
    awaiting text COLLATE "C",
    PRIMARY KEY (catalog, fence_key, type, mode)
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 200,
    autovacuum_analyze_scale_factor = 0.05
);
CREATE INDEX targets_due ON targets (due) WHERE due IS NOT NULL;
CREATE INDEX targets_awaiting ON targets (awaiting) WHERE awaiting IS NOT NULL;

-- Why a slot ran, waits or did not run. `document` holds the words.
CREATE TABLE decisions (
    id text COLLATE "C" NOT NULL,
    catalog text COLLATE "C" NOT NULL,
    table_key text COLLATE "C" NOT NULL,
    fence_key text COLLATE "C" NOT NULL,
    type text NOT NULL,
    mode text NOT NULL,
    policy text COLLATE "C" NOT NULL,
    policy_generation bigint NOT NULL,
    slot timestamptz NOT NULL,
    last_slot timestamptz,
    slots integer NOT NULL,
    verdict text NOT NULL,
    reason text NOT NULL,
    time timestamptz NOT NULL,
    term bigint NOT NULL,
    operation text COLLATE "C",
    next_eligible timestamptz,
    document jsonb NOT NULL,
    PRIMARY KEY (catalog, fence_key, type, mode, policy, slot)
);
CREATE INDEX decisions_listed ON decisions (time, id);
CREATE INDEX decisions_table ON decisions (catalog, table_key, time, id);
CREATE INDEX decisions_policy ON decisions (policy, time, id);

-- How the operations of one type on one table ended lately.
CREATE TABLE outcomes (
    fence_key text COLLATE "C" NOT NULL,
    type text NOT NULL,
    last_success_time timestamptz,
    last_finish_time timestamptz,
    last_metadata_location text NOT NULL,
    consecutive_failures integer NOT NULL,
    last_failure_time timestamptz,
    last_failure_class text,
    last_failure_generation bigint NOT NULL,
    consecutive_no_change integer NOT NULL,
    finished bigint NOT NULL,
    failed bigint NOT NULL,
    PRIMARY KEY (fence_key, type)
) WITH (fillfactor = 70);

-- What operations cost the budgets of their policies: estimates, until they end.
CREATE TABLE charges (
    operation text COLLATE "C" PRIMARY KEY,
    policy text COLLATE "C" NOT NULL,
    fence_key text COLLATE "C" NOT NULL,
    time timestamptz NOT NULL,
    bytes bigint NOT NULL,
    engine_seconds double precision NOT NULL
);
CREATE INDEX charges_policy ON charges (policy, time);
CREATE INDEX charges_time ON charges (time);

-- Policies that were created, changed or deleted, until every table that they may touch has been marked.
CREATE TABLE policy_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    policy text COLLATE "C" NOT NULL,
    patterns text[] NOT NULL,
    time timestamptz NOT NULL DEFAULT clock_timestamp(),
    after_catalog text COLLATE "C",
    after_namespace text[] COLLATE "C",
    after_name text COLLATE "C"
);

-- Every table that is known already is resolved once.
ALTER TABLE tables
    ADD COLUMN fence_key text COLLATE "C" GENERATED ALWAYS AS (coalesce(nullif(uuid, ''), table_key)) STORED,
    ADD COLUMN maintenance_enabled boolean NOT NULL DEFAULT true,
    ADD COLUMN unresolved boolean NOT NULL DEFAULT true;
CREATE UNIQUE INDEX tables_fence ON tables (catalog, fence_key);
CREATE INDEX tables_unresolved ON tables (id) WHERE unresolved;
CREATE INDEX tables_unmaintained ON tables (fence_key) WHERE NOT maintenance_enabled;

ALTER TABLE health_reports ADD COLUMN time timestamptz;
UPDATE health_reports SET time = (report->>'measure_time')::timestamptz;
ALTER TABLE health_reports
    ALTER COLUMN time SET DEFAULT clock_timestamp(),
    ALTER COLUMN time SET NOT NULL;
CREATE INDEX health_reports_time ON health_reports (time);

ALTER TABLE operations
    ADD COLUMN policy_generation bigint NOT NULL DEFAULT 0,
    ADD COLUMN slot timestamptz,
    ADD COLUMN cancel_at timestamptz,
    -- Scheduled, and its table has been resolved to another policy or generation since.
    ADD COLUMN displaced boolean NOT NULL DEFAULT false;
ALTER TABLE operation_history
    ADD COLUMN policy_generation bigint NOT NULL DEFAULT 0,
    ADD COLUMN slot timestamptz,
    ADD COLUMN cancel_at timestamptz,
    ADD COLUMN displaced boolean NOT NULL DEFAULT false;
UPDATE operations SET
    policy_generation = (document->>'policy_generation')::bigint, document = document - 'policy_generation';
UPDATE operation_history SET
    policy_generation = (document->>'policy_generation')::bigint, document = document - 'policy_generation';

-- An alarm, not the mechanism: a slot that finds an unfinished operation is skipped.
CREATE UNIQUE INDEX operations_one_scheduled_waiting ON operations (fence_key, type)
    WHERE state = 'QUEUED' AND slot IS NOT NULL;
CREATE INDEX operations_open ON operations (fence_key, type);
CREATE INDEX operations_displaced ON operations (virtual_deadline, id) WHERE state = 'QUEUED' AND displaced;
CREATE INDEX operations_cancel_at ON operations (cancel_at)
    WHERE cancel_at IS NOT NULL AND cancel_request_time IS NULL;
CREATE INDEX operation_history_fence ON operation_history (fence_key, type, create_time);
CREATE INDEX operation_history_succeeded ON operation_history (type, create_time) WHERE state = 'SUCCEEDED';
