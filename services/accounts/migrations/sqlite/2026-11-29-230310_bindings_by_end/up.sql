-- For deleting role bindings some time after their end.
CREATE INDEX IF NOT EXISTS role_bindings_by_end ON role_bindings (expires_at) WHERE expires_at IS NOT NULL;
