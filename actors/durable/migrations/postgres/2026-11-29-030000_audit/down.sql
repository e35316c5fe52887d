DROP TABLE audit_sealer, audit_key, audit_subject, audit_checkpoint, audit_chain, audit_link, audit_entry;
DROP FUNCTION audit_is_append_only;
DROP SEQUENCE audit_position;
