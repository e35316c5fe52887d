DROP INDEX job_unfinished;
