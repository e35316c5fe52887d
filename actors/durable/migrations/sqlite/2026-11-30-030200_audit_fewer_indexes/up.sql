-- Entries are searched by `audit_search`. Each index is written in the transaction of every act, so these are not kept.
DROP INDEX audit_entry_by_resource;
DROP INDEX audit_entry_by_type;
DROP INDEX audit_entry_by_action;
DROP INDEX audit_entry_by_actor;
