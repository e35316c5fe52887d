-- For deleting grants some time after their end.
CREATE INDEX CONCURRENTLY IF NOT EXISTS grants_by_end ON grants (expires_at) WHERE expires_at IS NOT NULL;
