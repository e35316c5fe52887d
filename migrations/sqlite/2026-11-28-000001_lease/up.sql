CREATE TABLE lease (
    name       TEXT      PRIMARY KEY NOT NULL,
    holder     TEXT      NOT NULL,
    fence      BIGINT    NOT NULL,
    expires_at TIMESTAMP NOT NULL,
    due_at     TIMESTAMP NOT NULL
);
