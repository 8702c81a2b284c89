-- Names sort by code point everywhere, whatever the database's own collation.

CREATE TABLE store_identity (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    store uuid NOT NULL DEFAULT gen_random_uuid(),
    -- Events of transactions before this one have been dropped; a cursor below it may have missed some.
    events_from xid8 NOT NULL DEFAULT '0'
);
INSERT INTO store_identity DEFAULT VALUES;

CREATE TABLE policies (
    name text COLLATE "C" PRIMARY KEY,
    enabled boolean NOT NULL,
    generation bigint NOT NULL,
    etag text NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    spec jsonb NOT NULL
);

CREATE TABLE policy_generations (
    name text COLLATE "C" NOT NULL,
    -- A policy that was deleted and made again begins at generation 1 again.
    create_time timestamptz NOT NULL,
    generation bigint NOT NULL,
    time timestamptz NOT NULL DEFAULT clock_timestamp(),
    spec jsonb NOT NULL,
    PRIMARY KEY (name, create_time, generation)
);

CREATE TABLE catalogs (
    name text COLLATE "C" PRIMARY KEY,
    revision bigint NOT NULL,
    generation bigint NOT NULL,
    max_concurrent_operations integer NOT NULL,
    create_time timestamptz NOT NULL,
    update_time timestamptz NOT NULL,
    last_list_time timestamptz,
    last_list_error text NOT NULL,
    document jsonb NOT NULL
);

-- How many leases a key may have at once (0: no limit) and has. Keys: catalog:NAME, engine:NAME, label:KEY=VALUE.
CREATE TABLE capacity (
    key text COLLATE "C" PRIMARY KEY,
    maximum integer NOT NULL DEFAULT 0 CHECK (maximum >= 0),
    in_use integer NOT NULL DEFAULT 0 CHECK (in_use >= 0)
) WITH (fillfactor = 50);

CREATE TABLE tables (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    catalog text COLLATE "C" NOT NULL REFERENCES catalogs ON DELETE CASCADE,
    namespace text[] COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    uuid text COLLATE "C" NOT NULL,
    table_key text COLLATE "C" NOT NULL,
    location text NOT NULL,
    metadata_location text NOT NULL,
    format_version integer NOT NULL,
    state text NOT NULL,
    first_seen_time timestamptz NOT NULL,
    last_seen_time timestamptz NOT NULL
);
CREATE UNIQUE INDEX tables_identity ON tables (catalog, uuid) WHERE uuid <> '';
CREATE UNIQUE INDEX tables_name ON tables (catalog, namespace, name) WHERE state <> 'REPLACED';

CREATE TABLE health_reports (
    id bigint GENERATED ALWAYS AS IDENTITY,
    table_id bigint NOT NULL REFERENCES tables ON DELETE CASCADE,
    report jsonb NOT NULL,
    PRIMARY KEY (table_id, id)
);

CREATE TABLE executors (
    id text COLLATE "C" PRIMARY KEY,
    session text,
    drained boolean NOT NULL,
    leaving boolean NOT NULL,
    attach_time timestamptz NOT NULL,
    last_heartbeat_time timestamptz NOT NULL,
    document jsonb NOT NULL
) WITH (fillfactor = 50);
CREATE INDEX executors_session ON executors (session);

-- Who may change a table now, by table UUID (the qualified name where a table has none). A fence outlives every operation.
CREATE TABLE fences (
    key text COLLATE "C" PRIMARY KEY,
    epoch bigint NOT NULL DEFAULT 0,
    holder text
) WITH (fillfactor = 70);

-- Unfinished operations. What is guarded, queried or changed often is a column, everything else is in `document`.
CREATE TABLE operations (
    id text COLLATE "C" PRIMARY KEY,
    type text NOT NULL,
    type_order integer NOT NULL,
    catalog text COLLATE "C" NOT NULL REFERENCES catalogs,
    namespace text[] COLLATE "C" NOT NULL,
    name text COLLATE "C" NOT NULL,
    table_key text COLLATE "C" NOT NULL,
    fence_key text COLLATE "C" NOT NULL,
    policy text COLLATE "C" NOT NULL,
    trigger_id text COLLATE "C" NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    create_time timestamptz NOT NULL,
    queue_deadline timestamptz NOT NULL,
    virtual_deadline timestamptz NOT NULL,
    state text NOT NULL,
    state_reason text NOT NULL,
    revision bigint NOT NULL,
    update_time timestamptz,
    not_before timestamptz,
    attempt integer NOT NULL,
    epoch bigint NOT NULL,
    token bytea NOT NULL,
    executor text COLLATE "C",
    session text COLLATE "C",
    engine text NOT NULL,
    ack_deadline timestamptz,
    lease_expire_time timestamptz,
    missed_renewals integer NOT NULL,
    avoid_executor text COLLATE "C",
    avoid_until timestamptz,
    redelivery boolean NOT NULL,
    solo boolean NOT NULL,
    lapse integer NOT NULL,
    evidence_not_before timestamptz,
    reconcile_deadline timestamptz,
    verify_deadline timestamptz,
    cancel_request_time timestamptz,
    finish_time timestamptz,
    document jsonb NOT NULL,
    -- The capacity that its lease counts against.
    capacity_keys text[] NOT NULL DEFAULT '{}',
    -- The transaction that its last event is ordered under.
    event_xid xid8 NOT NULL DEFAULT pg_current_xact_id()
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_threshold = 200,
    autovacuum_analyze_scale_factor = 0.05
);
-- An alarm, not the mechanism: the fence keeps the operations of one table apart.
CREATE UNIQUE INDEX operations_one_live_per_table ON operations (fence_key)
    WHERE state IN ('LEASED', 'RUNNING', 'RECONCILING', 'VERIFYING');
CREATE INDEX operations_queue ON operations (virtual_deadline, id) WHERE state = 'QUEUED';
CREATE INDEX operations_waiting ON operations (queue_deadline) WHERE state IN ('QUEUED', 'HELD');
CREATE INDEX operations_leased ON operations (executor) WHERE state IN ('LEASED', 'RUNNING', 'RECONCILING', 'VERIFYING');
CREATE INDEX operations_listed ON operations (create_time, id);
CREATE INDEX operations_run ON operations (run_id);
CREATE INDEX operations_trigger ON operations (trigger_id);
CREATE INDEX operations_table ON operations (catalog, table_key, create_time, id);
CREATE INDEX operations_policy ON operations (policy, create_time, id);

CREATE TABLE operation_history (LIKE operations INCLUDING DEFAULTS) PARTITION BY RANGE (create_time);
CREATE TABLE operation_history_default PARTITION OF operation_history DEFAULT;
CREATE INDEX operation_history_id ON operation_history (id);
CREATE INDEX operation_history_listed ON operation_history (create_time, id);
CREATE INDEX operation_history_run ON operation_history (run_id);
CREATE INDEX operation_history_trigger ON operation_history (trigger_id);
CREATE INDEX operation_history_table ON operation_history (catalog, table_key, create_time, id);
CREATE INDEX operation_history_policy ON operation_history (policy, create_time, id);

CREATE TABLE attempts (
    operation text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    start_time timestamptz NOT NULL,
    finish_time timestamptz,
    document jsonb NOT NULL,
    PRIMARY KEY (operation, epoch)
);
CREATE INDEX attempts_start ON attempts (start_time);

-- Every result that came, by the lease it was sent under; the ones that decided nothing are kept as evidence.
CREATE TABLE results (
    operation text COLLATE "C" NOT NULL,
    epoch bigint NOT NULL,
    token bytea NOT NULL,
    digest bytea NOT NULL,
    verdict text NOT NULL,
    reason text NOT NULL,
    payload jsonb NOT NULL,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (operation, epoch, token, digest)
);
CREATE UNIQUE INDEX results_one_accepted_per_lease ON results (operation, epoch, token) WHERE verdict = 'ACCEPTED';
CREATE INDEX results_create ON results (create_time);

CREATE TABLE progress (
    operation text COLLATE "C" PRIMARY KEY,
    time timestamptz NOT NULL,
    document jsonb NOT NULL
) WITH (fillfactor = 50);

-- Append-only. Rows are ordered by (xid, sequence). `xid` is never before the transaction that wrote the row, so that readers who
-- stop below the oldest running transaction miss nothing; and never before the xid of the operation's earlier events.
CREATE TABLE events (
    sequence bigint GENERATED ALWAYS AS IDENTITY,
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    time timestamptz NOT NULL,
    event text NOT NULL,
    from_state text,
    to_state text NOT NULL,
    operation_id text COLLATE "C" NOT NULL,
    type text NOT NULL,
    catalog text COLLATE "C" NOT NULL,
    table_key text COLLATE "C" NOT NULL,
    policy text COLLATE "C" NOT NULL,
    trigger_id text COLLATE "C" NOT NULL,
    run_id text COLLATE "C" NOT NULL,
    operation jsonb NOT NULL
) PARTITION BY RANGE (time);
CREATE TABLE events_default PARTITION OF events DEFAULT;
CREATE INDEX events_order ON events (xid, sequence);

CREATE TABLE observations (
    id text COLLATE "C" PRIMARY KEY,
    kind text NOT NULL,
    target text NOT NULL,
    catalog text COLLATE "C" NOT NULL,
    operation text COLLATE "C",
    lapse integer NOT NULL,
    state text NOT NULL,
    epoch bigint NOT NULL DEFAULT 0,
    executor text COLLATE "C",
    session text COLLATE "C",
    create_time timestamptz NOT NULL,
    deadline timestamptz NOT NULL,
    timeout interval NOT NULL,
    not_before timestamptz,
    lease_expire_time timestamptz,
    begin_time timestamptz,
    finish_time timestamptz,
    used_time timestamptz,
    traceparent text NOT NULL,
    request jsonb NOT NULL,
    answer jsonb
);
CREATE UNIQUE INDEX observations_one_open ON observations (kind, target) WHERE state <> 'DONE';
CREATE INDEX observations_open ON observations (create_time, id) WHERE state = 'OPEN';
CREATE INDEX observations_answered ON observations (finish_time, id) WHERE state = 'DONE' AND used_time IS NULL;
CREATE INDEX observations_operation ON observations (operation) WHERE operation IS NOT NULL;
CREATE INDEX observations_finish ON observations (finish_time) WHERE state = 'DONE';

CREATE TABLE pauses (
    scope text PRIMARY KEY,
    catalog text COLLATE "C",
    table_key text COLLATE "C",
    until timestamptz,
    document jsonb NOT NULL
);

CREATE TABLE requests (
    caller text NOT NULL,
    method text NOT NULL,
    request_id text NOT NULL,
    digest bytea NOT NULL,
    response bytea,
    create_time timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (caller, method, request_id)
);
CREATE INDEX requests_create ON requests (create_time);
