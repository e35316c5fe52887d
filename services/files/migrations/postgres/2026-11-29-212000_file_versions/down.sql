DROP TABLE file_version;
