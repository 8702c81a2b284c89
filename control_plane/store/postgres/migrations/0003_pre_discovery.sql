-- When the last two complete listings began: a table that was last seen before both is looked for.
ALTER TABLE catalogs
    ADD COLUMN list_begin_time timestamptz,
    ADD COLUMN earlier_list_begin_time timestamptz;

-- Tables that are known by their names alone.
CREATE INDEX tables_unloaded ON tables (catalog, namespace, name) WHERE uuid = '' AND state = 'PRESENT';
