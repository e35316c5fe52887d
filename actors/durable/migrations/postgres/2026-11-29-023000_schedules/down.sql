DROP TABLE job_occurrence;
DROP TABLE job_schedule;
