-- For lists of the users with a status that few have.
CREATE INDEX IF NOT EXISTS users_by_status ON users (status, id);
