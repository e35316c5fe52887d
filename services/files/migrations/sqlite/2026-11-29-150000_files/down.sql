DROP TABLE file;
DROP TABLE file_blob;
DROP TABLE file_usage;
