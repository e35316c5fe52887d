-- For reading by resource; in the order of positions, which is that of the chain.
CREATE INDEX CONCURRENTLY audit_entry_by_resource ON audit_entry (tenant_id, resource_id, xid, position);
