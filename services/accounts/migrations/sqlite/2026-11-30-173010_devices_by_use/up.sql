-- For deleting devices that were not used for long.
CREATE INDEX IF NOT EXISTS devices_by_use ON devices (last_seen);
