-- What the runtime did: starts of the process and what became of its components.
CREATE TABLE runtime_journal (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    instance TEXT NOT NULL,
    component TEXT NOT NULL,
    event TEXT NOT NULL,
    reason TEXT,
    at TIMESTAMP NOT NULL
);
