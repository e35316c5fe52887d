DROP TABLE file_link;
