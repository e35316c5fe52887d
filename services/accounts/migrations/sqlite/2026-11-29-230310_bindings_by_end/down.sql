DROP INDEX IF EXISTS role_bindings_by_end;
