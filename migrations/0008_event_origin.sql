-- From where events came, and how far the log is forgotten.
--
-- Only additions: the version before leaves them empty.

-- The address from which the call came: of the user, or else of the service or gateway that made it.
ALTER TABLE event ADD COLUMN actor_address text {bytewise};

-- What was placed until here is forgotten for its age, if it is there no more.
ALTER TABLE event_feed ADD COLUMN forgotten_position bigint NOT NULL DEFAULT 0;
