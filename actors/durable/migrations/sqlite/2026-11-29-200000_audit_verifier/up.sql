-- Where each verifier is in its round over all chains, signed like a checkpoint.
CREATE TABLE audit_verifier (
    name      TEXT NOT NULL PRIMARY KEY,
    place     TEXT NOT NULL,
    key_id    TEXT,
    signature TEXT
);
