-- For a change of one user, which reads the keys of that user.
CREATE INDEX CONCURRENTLY IF NOT EXISTS api_keys_by_user ON api_keys (user_id);
