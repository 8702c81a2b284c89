-- Since when a target waits for a health report.
ALTER TABLE targets ADD COLUMN unmeasured_since timestamptz;

-- When the URI or the warehouse changed last: a table that was seen later is there.
ALTER TABLE catalogs ADD COLUMN move_time timestamptz;
