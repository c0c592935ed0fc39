-- The oldest version of the service that this schema still serves, by the number of the newest migration that it knows. A migration
-- that takes something away raises it, so that a version which needs that refuses to start, and no other does.
CREATE TABLE schema_floor (
    single boolean NOT NULL PRIMARY KEY CONSTRAINT schema_floor_is_one CHECK (single),
    oldest bigint NOT NULL
);
INSERT INTO schema_floor (single, oldest) VALUES (true, 13);
