-- For a change of one role, which reads its holders.
CREATE INDEX CONCURRENTLY IF NOT EXISTS role_bindings_by_role ON role_bindings (tenant_id, role_id);
