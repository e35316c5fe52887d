-- Adds and drops partitions of the log with the rights of its owner, so that the role of the daemon need not own tables.
CREATE FUNCTION event_partition_add(day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    partition text := 'event_' || to_char(day, 'YYYYMMDD');
BEGIN
    -- Made apart and then attached: that lets writers of other partitions go on.
    EXECUTE format('CREATE TABLE %I (LIKE event INCLUDING DEFAULTS)', partition);
    EXECUTE format('ALTER TABLE event ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', partition, day, day + 1);
END $$;

CREATE FUNCTION event_partition_drop(day date) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    EXECUTE format('DROP TABLE %I', 'event_' || to_char(day, 'YYYYMMDD'));
END $$;
