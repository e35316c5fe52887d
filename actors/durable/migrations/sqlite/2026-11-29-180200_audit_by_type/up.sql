-- For reading by type; in the order of positions, which is that of the chain.
CREATE INDEX audit_entry_by_type ON audit_entry (tenant_id, resource_type, xid, position);
