-- Where each verifier is in its round over all chains, signed like a checkpoint.
CREATE TABLE audit_verifier (
    name      text NOT NULL PRIMARY KEY,
    place     text NOT NULL,
    key_id    uuid,
    signature text
);
