-- Workspaces and rooms, settings, custom roles, domains and joining, monitoring, days of analytics, billing profiles, imports.
--
-- Only additions: the version before runs on beside this one. A line that begins with {sqlite} or {postgres} is for that
-- database alone.

-- Counters and flags stand in the organization's row, which every change locks and every call reads anyway.
ALTER TABLE organization ADD COLUMN time_zone text NOT NULL DEFAULT 'UTC';
-- Active members by role; unknown (NULL) until the first change after this migration.
ALTER TABLE organization ADD COLUMN members_by_role jsonb;
-- What happened today, in the organization's time zone; moved to organization_day by the first change of a later day.
ALTER TABLE organization ADD COLUMN today jsonb;
-- How many roles of its own it has: none is the usual case, and costs no further look.
ALTER TABLE organization ADD COLUMN custom_roles bigint NOT NULL DEFAULT 0;
-- Whether its settings say from which domains members' e-mail addresses may be.
ALTER TABLE organization ADD COLUMN restricts_email_domains boolean NOT NULL DEFAULT false;
ALTER TABLE organization ADD COLUMN storage_bytes bigint NOT NULL DEFAULT 0
    CONSTRAINT organization_storage_not_negative CHECK (storage_bytes >= 0);
ALTER TABLE organization ADD COLUMN recordings bigint NOT NULL DEFAULT 0
    CONSTRAINT organization_recordings_not_negative CHECK (recordings >= 0);
ALTER TABLE organization ADD COLUMN live_sessions bigint NOT NULL DEFAULT 0
    CONSTRAINT organization_live_sessions_not_negative CHECK (live_sessions >= 0);

-- The workspaces that were chosen when inviting, a list of ids.
ALTER TABLE invitation ADD COLUMN workspace_ids jsonb;

CREATE TABLE workspace (
    organization_id uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    workspace_id    uuid        NOT NULL,
    kind            text        NOT NULL {bytewise},
    name            text        NOT NULL,
    -- The name without case and accents: for the order of lists, and for searching.
    sort_name       text        NOT NULL {bytewise},
    description     text        NOT NULL,
    -- A room's name in its join link.
    slug            text        {bytewise},
    -- How a room behaves.
    room_settings   jsonb,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    version         bigint      NOT NULL,

    PRIMARY KEY (organization_id, workspace_id),
    CONSTRAINT workspace_kind_known CHECK (kind IN ('workspace', 'room')),
    CONSTRAINT workspace_room_has_a_slug CHECK ((kind = 'room') = (slug IS NOT NULL)),
    CONSTRAINT workspace_room_slug_unique UNIQUE (slug)
);

CREATE INDEX workspace_by_name ON workspace (organization_id, sort_name, workspace_id);

CREATE TABLE workspace_member (
    organization_id uuid        NOT NULL,
    workspace_id    uuid        NOT NULL,
    user_id         text        NOT NULL {bytewise},
    assigned_at     timestamptz NOT NULL,
    -- When they joined the organization, as their membership has it, where it never changes: so that those of one workspace
    -- are listed in that order without a look at the others.
    joined_at       timestamptz NOT NULL,

    CONSTRAINT workspace_member_once PRIMARY KEY (organization_id, workspace_id, user_id),
    -- Nobody is assigned who is no member, and to nothing that is not there.
    CONSTRAINT workspace_member_is_a_member FOREIGN KEY (organization_id, user_id)
        REFERENCES membership (organization_id, user_id) ON DELETE CASCADE,
    CONSTRAINT workspace_member_has_a_workspace FOREIGN KEY (organization_id, workspace_id)
        REFERENCES workspace (organization_id, workspace_id) ON DELETE CASCADE
);

CREATE INDEX workspace_member_by_user ON workspace_member (organization_id, user_id, workspace_id);
CREATE INDEX workspace_member_by_join ON workspace_member (organization_id, workspace_id, joined_at, user_id);

-- Roles that an organization defined for itself.
CREATE TABLE custom_role (
    organization_id uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    -- Begins with org: so that it is never the name of a role of the policy.
    role            text        NOT NULL {bytewise},
    title           text        NOT NULL,
    description     text        NOT NULL,
    -- What it may do, to whom, and by whom it is managed.
    definition      jsonb       NOT NULL,
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    version         bigint      NOT NULL,

    CONSTRAINT custom_role_once PRIMARY KEY (organization_id, role),
    CONSTRAINT custom_role_is_the_organizations_own CHECK (role LIKE 'org:%')
);

CREATE TABLE organization_settings (
    organization_id uuid        NOT NULL PRIMARY KEY REFERENCES organization (organization_id) ON DELETE CASCADE,
    settings        jsonb       NOT NULL,
    updated_at      timestamptz NOT NULL,
    version         bigint      NOT NULL
);

CREATE TABLE organization_domain (
    organization_id uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    domain          text        NOT NULL {bytewise},
    -- What the domain's TXT record has to say.
    proof           text        NOT NULL {bytewise},
    verified_at     timestamptz,
    -- What those may do whose e-mail address is of the domain.
    join_mode       text        NOT NULL {bytewise},
    join_role       text        NOT NULL {bytewise},
    created_at      timestamptz NOT NULL,
    updated_at      timestamptz NOT NULL,
    version         bigint      NOT NULL,

    CONSTRAINT organization_domain_once PRIMARY KEY (organization_id, domain),
    CONSTRAINT organization_domain_join_mode_known CHECK (join_mode IN ('nobody', 'request', 'automatic')),
    CONSTRAINT organization_domain_joined_only_if_verified CHECK (join_mode = 'nobody' OR verified_at IS NOT NULL)
);

-- Many may claim a domain; it is of the one that proves it first.
CREATE UNIQUE INDEX organization_domain_verified_unique ON organization_domain (domain) WHERE verified_at IS NOT NULL;

CREATE TABLE join_request (
    organization_id    uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    join_request_id    uuid        NOT NULL,
    user_id            text        NOT NULL {bytewise},
    email              text        NOT NULL,
    email_normalized   text        NOT NULL {bytewise},
    display_name       text        NOT NULL,
    avatar_uri         text        NOT NULL,
    -- The role that the domain's rule offered.
    role               text        NOT NULL {bytewise},
    state              text        NOT NULL {bytewise},
    created_at         timestamptz NOT NULL,
    ended_at           timestamptz,
    decided_by_user_id text        {bytewise},

    PRIMARY KEY (organization_id, join_request_id),
    CONSTRAINT join_request_state_known CHECK (state IN ('pending', 'approved', 'declined', 'withdrawn')),
    CONSTRAINT join_request_ended_unless_pending CHECK ((ended_at IS NULL) = (state = 'pending'))
);

CREATE UNIQUE INDEX join_request_open_unique ON join_request (organization_id, user_id) WHERE state = 'pending';
CREATE INDEX join_request_open ON join_request (organization_id, join_request_id) WHERE state = 'pending';

-- Meetings in rooms, as the meeting backend reports them.
CREATE TABLE room_session (
    organization_id     uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    -- As the meeting backend names it.
    session_id          text        NOT NULL {bytewise},
    workspace_id        uuid        NOT NULL,
    title               text        NOT NULL,
    host_user_id        text        NOT NULL {bytewise},
    participants        bigint      NOT NULL,
    started_at          timestamptz NOT NULL,
    end_requested_at    timestamptz,
    end_requested_by    text        {bytewise},
    ended_at            timestamptz,

    CONSTRAINT room_session_once PRIMARY KEY (organization_id, session_id),
    CONSTRAINT room_session_participants_not_negative CHECK (participants >= 0),
    CONSTRAINT room_session_ends_after_its_start CHECK (ended_at IS NULL OR ended_at >= started_at)
);

CREATE INDEX room_session_by_start ON room_session (organization_id, started_at, session_id);
CREATE INDEX room_session_live ON room_session (organization_id, started_at, session_id) WHERE ended_at IS NULL;
-- A host's live sessions would else be sought among all that they ever hosted.
CREATE INDEX room_session_live_by_host ON room_session (organization_id, host_user_id, started_at, session_id)
    WHERE ended_at IS NULL;
CREATE INDEX room_session_by_host ON room_session (organization_id, host_user_id, started_at, session_id);
CREATE INDEX room_session_live_by_room ON room_session (organization_id, workspace_id, started_at, session_id)
    WHERE ended_at IS NULL;
CREATE INDEX room_session_by_room ON room_session (organization_id, workspace_id, started_at, session_id);

CREATE TABLE recording (
    organization_id uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    -- As the meeting backend names it.
    recording_id    text        NOT NULL {bytewise},
    workspace_id    uuid,
    session_id      text        {bytewise},
    owner_user_id   text        NOT NULL {bytewise},
    title           text        NOT NULL,
    size_bytes      bigint      NOT NULL,
    length_seconds  bigint      NOT NULL,
    recorded_at     timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,
    -- What is left of a deleted one: its id, which a late report of the meeting backend must not bring back.
    deleted_at      timestamptz,

    CONSTRAINT recording_once PRIMARY KEY (organization_id, recording_id),
    CONSTRAINT recording_size_not_negative CHECK (size_bytes >= 0),
    CONSTRAINT recording_length_not_negative CHECK (length_seconds >= 0)
);

CREATE INDEX recording_by_time ON recording (organization_id, recorded_at, recording_id) WHERE deleted_at IS NULL;
CREATE INDEX recording_by_owner ON recording (organization_id, owner_user_id, recorded_at, recording_id)
    WHERE deleted_at IS NULL;
CREATE INDEX recording_by_room ON recording (organization_id, workspace_id, recorded_at, recording_id)
    WHERE deleted_at IS NULL;

-- What each day was like, in the organization's time zone: a row for each day on which something changed.
CREATE TABLE organization_day (
    organization_id      uuid   NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    day                  date   NOT NULL,
    -- How things stood at its end.
    members              bigint NOT NULL,
    seats_used           bigint NOT NULL,
    seats_total          bigint NOT NULL,
    storage_bytes        bigint NOT NULL,
    recordings           bigint NOT NULL,
    -- What happened on it.
    sign_ins             bigint NOT NULL,
    -- Members who signed in on it, and of these the ones for whom it was the first time in its week, and in its month: the
    -- sum over a week or a month counts everybody once.
    active_members       bigint NOT NULL,
    active_first_in_week bigint NOT NULL,
    active_first_in_month bigint NOT NULL,
    members_joined       bigint NOT NULL,
    members_left         bigint NOT NULL,
    invitations_sent     bigint NOT NULL,
    invitations_accepted bigint NOT NULL,
    sessions             bigint NOT NULL,
    session_seconds      bigint NOT NULL,

    CONSTRAINT organization_day_once PRIMARY KEY (organization_id, day)
);

CREATE TABLE billing_profile (
    organization_id       uuid        NOT NULL PRIMARY KEY REFERENCES organization (organization_id) ON DELETE CASCADE,
    -- Name, e-mail address, postal address, tax id, purchase-order number.
    profile               jsonb       NOT NULL,
    updated_at            timestamptz NOT NULL,
    version               bigint      NOT NULL
);

-- Files that `tenantry import` has read, and how far: by the digest of their content.
CREATE TABLE data_import (
    digest      text        NOT NULL PRIMARY KEY {bytewise},
    lines       bigint      NOT NULL,
    lines_done  bigint      NOT NULL,
    started_at  timestamptz NOT NULL,
    finished_at timestamptz
);

-- Who was a member and is no longer. A rule by which people join by themselves does not undo a removal.
CREATE TABLE former_member (
    organization_id uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    user_id         text        NOT NULL {bytewise},
    ended_at        timestamptz NOT NULL,

    CONSTRAINT former_member_once PRIMARY KEY (organization_id, user_id)
);
