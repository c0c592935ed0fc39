-- What happened, told to URLs.

-- What happened before there were webhooks is not told by them.
INSERT INTO event_consumer (consumer, position) SELECT 'webhook', last_position FROM event_feed;

CREATE TABLE webhook_endpoint (
    -- The organization whose events it is told; nil of one that is told those of all. What such a one is stands in the configuration of
    -- the servers, and here only how it fares. No foreign key: a purge deletes the row.
    organization_id  uuid        NOT NULL,
    endpoint_id      uuid        NOT NULL,
    url              text        NOT NULL,
    description      text        NOT NULL,
    -- The types of events that it is told; all when empty.
    types            jsonb       NOT NULL,
    secret           bytea       NOT NULL,
    -- Those before it that sign too, each until when.
    old_secrets      jsonb       NOT NULL,
    created_at       timestamptz NOT NULL,
    updated_at       timestamptz NOT NULL,
    version          bigint      NOT NULL DEFAULT 1,
    disabled_at      timestamptz,
    disable_reason   text {bytewise},
    -- Since when it is deleted; the row goes when what it was told is gone.
    deleted_at       timestamptz,

    -- Up to where it was told what happens: to which number of the organization's events or, told those of all, to which position.
    place            bigint      NOT NULL,
    -- When something is to be done for it; nothing is, when absent. Not before it has been left alone for long enough.
    due_at           timestamptz,
    paused_until     timestamptz,
    -- Counts who said that something is to be done, so that whoever has just done all there was does not miss what came meanwhile.
    wakes            bigint      NOT NULL DEFAULT 0,
    -- Until when a server does so, and no other.
    claimed_until    timestamptz,
    -- How often it failed since it last took an event, since when, and why the last time.
    failures         bigint      NOT NULL DEFAULT 0,
    failing_since    timestamptz,
    failure          text        NOT NULL DEFAULT '',
    succeeded_at     timestamptz,

    PRIMARY KEY (organization_id, endpoint_id),
    CONSTRAINT webhook_endpoint_disabled_for_a_reason CHECK ((disabled_at IS NULL) = (disable_reason IS NULL)),
    CONSTRAINT webhook_endpoint_disable_reason_known CHECK (disable_reason IN ('requested', 'failing', 'gone')),
    CONSTRAINT webhook_endpoint_deleted_is_disabled CHECK (deleted_at IS NULL OR disabled_at IS NOT NULL),
    CONSTRAINT webhook_endpoint_failing CHECK ((failures = 0) = (failing_since IS NULL))
);

CREATE INDEX webhook_endpoint_due ON webhook_endpoint (due_at) WHERE due_at IS NOT NULL AND disabled_at IS NULL;
CREATE INDEX webhook_endpoint_ill ON webhook_endpoint (organization_id) WHERE failures > 0 OR disabled_at IS NOT NULL;
CREATE INDEX webhook_endpoint_deleted ON webhook_endpoint (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE webhook_delivery (
    -- Whose event it is.
    organization_id uuid        NOT NULL,
    endpoint_id     uuid        NOT NULL,
    event_number    bigint      NOT NULL,
    event_id        uuid        NOT NULL,
    event_type      text        NOT NULL {bytewise},
    state           text        NOT NULL {bytewise},
    -- How often it was tried since it was to be sent, and the latest tries.
    attempts        bigint      NOT NULL,
    -- Counts who had it sent again, so that whoever was sending it then does not note that it is done.
    asked           bigint      NOT NULL DEFAULT 0,
    tries           jsonb       NOT NULL,
    created_at      timestamptz NOT NULL,
    -- When it is tried again by itself. Absent while it holds up what comes after, and when it has ended.
    due_at          timestamptz,
    ended_at        timestamptz,

    PRIMARY KEY (organization_id, endpoint_id, event_number),
    CONSTRAINT webhook_delivery_state_known CHECK (state IN ('retrying', 'delivered', 'failed')),
    CONSTRAINT webhook_delivery_ended CHECK ((state = 'retrying') = (ended_at IS NULL)),
    CONSTRAINT webhook_delivery_due CHECK (due_at IS NULL OR state = 'retrying')
);

-- Of one endpoint, whosever event it is.
CREATE INDEX webhook_delivery_due ON webhook_delivery (endpoint_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX webhook_delivery_not_delivered ON webhook_delivery (organization_id, endpoint_id, event_number) WHERE state <> 'delivered';
CREATE INDEX webhook_delivery_old ON webhook_delivery (ended_at) WHERE ended_at IS NOT NULL;
