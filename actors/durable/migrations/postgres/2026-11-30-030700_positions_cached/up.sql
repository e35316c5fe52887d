-- Sessions take some positions at once, and need not meet for each. The order is that of transactions; within one, which is
-- of one session, positions still rise.
ALTER SEQUENCE event_position CACHE 32;
ALTER SEQUENCE audit_position CACHE 32;
