DROP TABLE audit_sealer;
DROP TABLE audit_key;
DROP TABLE audit_subject;
DROP TABLE audit_checkpoint;
DROP TABLE audit_chain;
DROP TABLE audit_link;
DROP TABLE audit_entry;
