-- Replaced by `job_unfinished`.
DROP INDEX job_waiting;
