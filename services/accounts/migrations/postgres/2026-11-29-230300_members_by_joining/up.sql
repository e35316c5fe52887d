-- For the list of members in the order in which they joined.
CREATE INDEX CONCURRENTLY IF NOT EXISTS memberships_by_joining ON memberships (tenant_id, joined_at, user_id);
