DROP INDEX CONCURRENTLY audit_entry_by_type;
