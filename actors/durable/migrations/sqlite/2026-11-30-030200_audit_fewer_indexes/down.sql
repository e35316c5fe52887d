CREATE INDEX audit_entry_by_actor ON audit_entry (tenant_id, actor, xid, position);
CREATE INDEX audit_entry_by_action ON audit_entry (tenant_id, action, xid, position);
CREATE INDEX audit_entry_by_type ON audit_entry (tenant_id, resource_type, xid, position);
CREATE INDEX audit_entry_by_resource ON audit_entry (tenant_id, resource_id, xid, position);
