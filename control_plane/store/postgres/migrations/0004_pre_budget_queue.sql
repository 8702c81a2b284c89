-- The queue for the budget of a policy: since when a target waits for it, and its place.
ALTER TABLE targets
    ADD COLUMN waiting_since timestamptz,
    ADD COLUMN place timestamptz;
CREATE INDEX targets_place ON targets (policy, place) WHERE place IS NOT NULL;

-- What the operations of one type on one table rewrote and took lately.
ALTER TABLE outcomes
    ADD COLUMN mean_bytes double precision,
    ADD COLUMN mean_seconds double precision;
