DROP TABLE file_rendition;
