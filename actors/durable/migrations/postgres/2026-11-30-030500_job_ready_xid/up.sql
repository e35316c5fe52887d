-- The transaction that made the job ready, last of all. So jobs that have become ready are found without the entries of
-- those that were claimed before, which stay in the other indexes while a reader keeps its snapshot.
ALTER TABLE job ADD COLUMN ready_xid bigint NOT NULL DEFAULT 0;
ALTER TABLE job ALTER COLUMN ready_xid SET DEFAULT (pg_current_xact_id()::text::bigint);
