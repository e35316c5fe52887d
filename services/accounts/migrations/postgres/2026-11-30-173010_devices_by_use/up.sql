-- For deleting devices that were not used for long.
CREATE INDEX CONCURRENTLY IF NOT EXISTS devices_by_use ON devices (last_seen);
