-- Whether a password is too short to be the only factor: beside a second one fewer characters do.
ALTER TABLE passwords ADD COLUMN is_short boolean NOT NULL DEFAULT false;
