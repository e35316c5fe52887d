DROP TABLE job_key;
