CREATE TABLE lease (
    name       text      PRIMARY KEY,
    holder     text      NOT NULL,
    fence      bigint    NOT NULL,
    expires_at timestamp NOT NULL,
    due_at     timestamp NOT NULL
);
