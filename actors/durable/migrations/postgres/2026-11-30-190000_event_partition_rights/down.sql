GRANT EXECUTE ON FUNCTION event_partition_add(date), event_partition_drop(date) TO PUBLIC;
