-- For deleting sessions some time after they were ended.
CREATE INDEX CONCURRENTLY IF NOT EXISTS sessions_by_end ON sessions (ended_at) WHERE ended_at IS NOT NULL;
