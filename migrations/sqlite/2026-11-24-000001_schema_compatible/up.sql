-- Versions of migrations that programs which do not know them get along with. Each such migration enters itself.
CREATE TABLE schema_compatible (version TEXT NOT NULL PRIMARY KEY);
INSERT INTO schema_compatible (version) VALUES ('20261124000001');
