-- The first statement works, the second does not: neither may stay.
CREATE TABLE half (id INTEGER);
SELECT no_such_function();
