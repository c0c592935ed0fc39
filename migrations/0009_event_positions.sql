-- Finds events by their place, and those that have none. By itself, for it takes long at many events: nothing is written into the log
-- meanwhile.

CREATE UNIQUE INDEX event_position_once ON event (position) WHERE position IS NOT NULL;
{postgres} CREATE INDEX event_unplaced ON event (organization_id, number) WHERE position IS NULL;
