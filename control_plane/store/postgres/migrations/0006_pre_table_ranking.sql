-- How much maintenance a table is owed, as it was reckoned last; null where nothing is known.
ALTER TABLE tables ADD COLUMN debt double precision;
CREATE INDEX tables_ranking ON tables ((-debt), catalog, namespace, name)
    WHERE debt IS NOT NULL AND state = 'PRESENT';
CREATE INDEX tables_ranking_of_catalog ON tables (catalog, (-debt), namespace, name)
    WHERE debt IS NOT NULL AND state = 'PRESENT';
CREATE INDEX tables_fence_key ON tables (fence_key);
CREATE INDEX outcomes_finish ON outcomes (last_finish_time);

-- Until when reports and ended operations were regarded in the debts. What is older than a day is measured again anyway.
CREATE TABLE debts_kept (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    until timestamptz NOT NULL
);
INSERT INTO debts_kept (until) VALUES (clock_timestamp() - interval '1 day');
