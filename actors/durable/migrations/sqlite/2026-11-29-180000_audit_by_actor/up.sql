-- For reading by actor; in the order of positions, which is that of the chain.
CREATE INDEX audit_entry_by_actor ON audit_entry (tenant_id, actor, xid, position);
