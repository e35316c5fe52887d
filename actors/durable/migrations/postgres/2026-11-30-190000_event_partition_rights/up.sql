-- Only who is granted it may call the functions of partitions, and no caller chooses the tables that their names mean.
REVOKE ALL ON FUNCTION event_partition_add(date), event_partition_drop(date) FROM PUBLIC;
DO $$
BEGIN
    EXECUTE format('ALTER FUNCTION event_partition_add(date) SET search_path = %I, pg_temp', current_schema());
    EXECUTE format('ALTER FUNCTION event_partition_drop(date) SET search_path = %I, pg_temp', current_schema());
END $$;
