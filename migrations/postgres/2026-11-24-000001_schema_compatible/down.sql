DROP TABLE schema_compatible;
