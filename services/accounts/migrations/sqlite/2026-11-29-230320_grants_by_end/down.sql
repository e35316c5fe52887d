DROP INDEX IF EXISTS grants_by_end;
