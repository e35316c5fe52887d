DROP TABLE audit_verifier;
