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

-- SQLite has one writer, which places what it writes: what is there already comes before. By the latest time until each, so that a
-- clock that once went back changes the order of no organization.
{sqlite} UPDATE event SET position = placed.position FROM (SELECT organization_id, number,
{sqlite}     ROW_NUMBER() OVER (ORDER BY reached, organization_id, number) AS position FROM (SELECT organization_id, number,
{sqlite}     MAX(occurred_at) OVER (PARTITION BY organization_id ORDER BY number) AS reached FROM event)) AS placed
{sqlite}     WHERE event.organization_id = placed.organization_id AND event.number = placed.number;
{sqlite} INSERT INTO event_feed (feed, last_position) SELECT 1, COALESCE(MAX(position), 0) FROM event;
{postgres} INSERT INTO event_feed (feed, last_position) VALUES (1, 0);
