-- For deleting counts of failures that are over.
CREATE INDEX IF NOT EXISTS login_throttle_by_begin ON login_throttle (window_start);
