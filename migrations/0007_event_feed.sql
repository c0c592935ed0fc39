-- The order of all events of the deployment, which those read who watch more than one organization.
--
-- The keys do not begin with the organization: this is what is not of one.

-- Its place among the events of all organizations: those of one are in the order of their numbers, and what is placed later
-- is never before what was placed earlier. NULL until it is placed, which on PostgreSQL is soon after the commit: positions
-- that were given out before would be committed in another order.
ALTER TABLE event ADD COLUMN position bigint;

CREATE TABLE event_feed (
    -- There is one.
    feed          smallint NOT NULL PRIMARY KEY CONSTRAINT event_feed_is_one CHECK (feed = 1),
    last_position bigint   NOT NULL
);

-- SQLite has one writer, which places what it writes: what is there already comes before.
{sqlite} UPDATE event SET position = placed.position FROM (SELECT organization_id, number,
{sqlite}     ROW_NUMBER() OVER (ORDER BY occurred_at, organization_id, number) AS position FROM event) AS placed
{sqlite}     WHERE event.organization_id = placed.organization_id AND event.number = placed.number;

INSERT INTO event_feed (feed, last_position) SELECT 1, COALESCE(MAX(position), 0) FROM event;

CREATE UNIQUE INDEX event_position_once ON event (position) WHERE position IS NOT NULL;
{postgres} CREATE INDEX event_unplaced ON event (organization_id, number) WHERE position IS NULL;
