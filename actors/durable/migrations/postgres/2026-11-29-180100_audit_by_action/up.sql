-- For reading by action; in the order of positions, which is that of the chain.
CREATE INDEX CONCURRENTLY audit_entry_by_action ON audit_entry (tenant_id, action, xid, position);
