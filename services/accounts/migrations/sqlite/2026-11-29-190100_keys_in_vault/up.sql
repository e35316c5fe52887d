-- Whether the private part of a signing key is in Vault. What is sealed here is empty then.
ALTER TABLE signing_keys ADD COLUMN in_vault BOOLEAN NOT NULL DEFAULT 0;
