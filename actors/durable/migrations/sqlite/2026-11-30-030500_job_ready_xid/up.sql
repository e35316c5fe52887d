-- PostgreSQL has the transaction that made the job ready. Here no reader keeps entries of claimed jobs in an index.
ALTER TABLE job ADD COLUMN ready_xid BIGINT NOT NULL DEFAULT 0;
