-- Organizations, members, invitations, subscriptions, the event log and the stored answers.
--
-- One text for SQLite and PostgreSQL. {bytewise} becomes the collation that compares bytes, so that both databases and the
-- code that merges their pages agree on the order of text, whatever the locale of the server.

CREATE TABLE organization (
    organization_id     uuid        NOT NULL PRIMARY KEY,
    name                text        NOT NULL,
    slug                text        NOT NULL {bytewise},
    description         text        NOT NULL,
    logo_uri            text        NOT NULL,
    -- The user for whom sign-up made this organization, while they are a member of it.
    default_of_user_id  text        {bytewise},
    created_at          timestamptz NOT NULL,
    updated_at          timestamptz NOT NULL,
    deleted_at          timestamptz,
    purge_at            timestamptz,
    version             bigint      NOT NULL,

    -- The counters stand in the row that every change locks, so that the rules about seats and the top role are decided
    -- and held by one conditional write, at the same cost for ten members and a million.
    seats_total         bigint      NOT NULL,
    active_members      bigint      NOT NULL,
    -- Invitations that hold a seat; those that have expired since the last change are still in it.
    pending_invitations bigint      NOT NULL,
    top_role_members    bigint      NOT NULL,
    last_event_number   bigint      NOT NULL,

    CONSTRAINT organization_slug_unique UNIQUE (slug),
    CONSTRAINT organization_keeps_a_top_role_member CHECK (top_role_members >= 1),
    CONSTRAINT organization_top_role_members_are_active CHECK (top_role_members <= active_members),
    CONSTRAINT organization_pending_invitations_not_negative CHECK (pending_invitations >= 0),
    CONSTRAINT organization_seats_total_not_negative CHECK (seats_total >= 0),
    CONSTRAINT organization_deleted_has_a_purge_time CHECK ((deleted_at IS NULL) = (purge_at IS NULL))
);

-- Sign-up makes one organization for a user, however often it is asked.
CREATE UNIQUE INDEX organization_default_unique ON organization (default_of_user_id)
    WHERE default_of_user_id IS NOT NULL AND deleted_at IS NULL;
CREATE INDEX organization_to_purge ON organization (purge_at) WHERE purge_at IS NOT NULL;

CREATE TABLE membership (
    organization_id  uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    user_id          text        NOT NULL {bytewise},
    email            text        NOT NULL,
    email_normalized text        NOT NULL {bytewise},
    display_name     text        NOT NULL,
    -- The name without case and accents: for the order of lists.
    sort_name        text        NOT NULL {bytewise},
    -- Name and e-mail address without case and accents: for searching.
    search_text      text        NOT NULL {bytewise},
    avatar_uri       text        NOT NULL,
    role             text        NOT NULL {bytewise},
    -- The invitation by which the member came; none for a founder.
    invitation_id    uuid,
    joined_at        timestamptz NOT NULL,
    -- 1970-01-01 for never, so that the order of lists needs no NULL.
    last_sign_in_at  timestamptz NOT NULL,
    -- A suspended member has no access and no seat.
    suspended_at     timestamptz,
    version          bigint      NOT NULL,

    CONSTRAINT membership_one_per_user PRIMARY KEY (organization_id, user_id),
    CONSTRAINT membership_user_id_said CHECK (user_id <> ''),
    CONSTRAINT membership_role_said CHECK (role <> '')
);

CREATE INDEX membership_by_join ON membership (organization_id, joined_at, user_id);
CREATE INDEX membership_by_name ON membership (organization_id, sort_name, user_id);
CREATE INDEX membership_by_email ON membership (organization_id, email_normalized, user_id);
CREATE INDEX membership_by_sign_in ON membership (organization_id, last_sign_in_at, user_id);
CREATE INDEX membership_by_role ON membership (organization_id, role, joined_at, user_id);
CREATE INDEX membership_suspended ON membership (organization_id, joined_at, user_id) WHERE suspended_at IS NOT NULL;
-- The organization switcher.
CREATE INDEX membership_by_user ON membership (user_id, joined_at, organization_id);

CREATE TABLE invitation (
    organization_id  uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    invitation_id    uuid        NOT NULL,
    email            text        NOT NULL,
    email_normalized text        NOT NULL {bytewise},
    -- The e-mail address without case and accents, for searching those who are expected.
    search_text      text        NOT NULL {bytewise},
    role             text        NOT NULL {bytewise},
    state            text        NOT NULL {bytewise},
    -- Whether it is counted in organization.pending_invitations. An expired one is taken out by the next change that
    -- needs a seat; until then readers subtract it.
    holds_seat       boolean     NOT NULL,
    -- SHA-256 of the token's secret; the token itself is nowhere.
    token_hash       bytea       NOT NULL,
    inviter_user_id  text        NOT NULL {bytewise},
    -- The role in which they sent it: by its right the invitee gets the role that is offered.
    inviter_role     text        NOT NULL {bytewise},
    invitee_user_id  text        {bytewise},
    send_count       integer     NOT NULL,
    created_at       timestamptz NOT NULL,
    sent_at          timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    ended_at         timestamptz,

    PRIMARY KEY (organization_id, invitation_id),
    CONSTRAINT invitation_state_known CHECK (state IN ('pending', 'accepted', 'declined', 'canceled')),
    CONSTRAINT invitation_ended_unless_pending CHECK ((ended_at IS NULL) = (state = 'pending')),
    CONSTRAINT invitation_only_pending_holds_a_seat CHECK (state = 'pending' OR NOT holds_seat)
);

CREATE UNIQUE INDEX invitation_open_email_unique ON invitation (organization_id, email_normalized) WHERE state = 'pending';
CREATE INDEX invitation_seat_expiry ON invitation (organization_id, expires_at) WHERE holds_seat;
-- Those who are expected, in the list of members by the time they came.
CREATE INDEX invitation_open_by_creation ON invitation (organization_id, created_at, invitation_id) WHERE state = 'pending';
-- What waits for a person, in any organization.
CREATE INDEX invitation_received ON invitation (email_normalized, created_at, invitation_id) WHERE state = 'pending';

CREATE TABLE subscription (
    organization_id uuid        NOT NULL PRIMARY KEY REFERENCES organization (organization_id) ON DELETE CASCADE,
    plan_id         text        NOT NULL {bytewise},
    status          text        NOT NULL {bytewise},
    seats           bigint      NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    version         bigint      NOT NULL,

    CONSTRAINT subscription_status_known CHECK (status IN ('trialing', 'active', 'past_due', 'unpaid', 'canceled')),
    CONSTRAINT subscription_seats_not_negative CHECK (seats >= 0)
);

-- Audit log and outbox in one: appended to in the transaction of the change, never updated.
CREATE TABLE event (
    organization_id uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    -- 1, 2, 3 … without a gap in each organization.
    number          bigint      NOT NULL,
    event_id        uuid        NOT NULL,
    type            text        NOT NULL {bytewise},
    -- What it is about: an organization, invitation, member or subscription, and which.
    subject_kind    text        NOT NULL {bytewise},
    subject_id      text        NOT NULL {bytewise},
    occurred_at     timestamptz NOT NULL,
    -- The user whose doing it was, and the service that made the call; either may be absent, not both.
    actor_user_id   text        {bytewise},
    actor_service   text        {bytewise},
    -- The id under which the logs know the call.
    request_id      text        NOT NULL,
    payload         jsonb       NOT NULL,

    CONSTRAINT event_number_gap_free PRIMARY KEY (organization_id, number),
    CONSTRAINT event_number_from_one CHECK (number >= 1),
    CONSTRAINT event_has_an_actor CHECK (actor_user_id IS NOT NULL OR actor_service IS NOT NULL)
);

-- The answers to changes that came with a request_id, so that a repeated call is answered alike and done once. The
-- answer is sealed with a key that only the request_id gives, which is stored as a hash: nobody who reads this table
-- finds an invitation's token in it.
CREATE TABLE stored_answer (
    -- The organization or, for calls that concern none yet, a UUID that is figured from the user.
    organization_id uuid        NOT NULL,
    caller          text        NOT NULL {bytewise},
    request_key     bytea       NOT NULL,
    payload_hash    bytea       NOT NULL,
    sealed_answer   bytea       NOT NULL,
    created_at      timestamptz NOT NULL,

    CONSTRAINT stored_answer_once PRIMARY KEY (organization_id, caller, request_key)
);

CREATE INDEX stored_answer_by_age ON stored_answer (created_at);

-- What the database was begun with, and every later start compares with: the name of the top role.
CREATE TABLE deployment (
    name  text NOT NULL PRIMARY KEY,
    value text NOT NULL
);
