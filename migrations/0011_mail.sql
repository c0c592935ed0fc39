-- What leaves after the commit, read from the log: how far each reader of it has come, and e-mail.

-- Who reads the log of all organizations to tell others of it, and until which position it has.
CREATE TABLE event_consumer (
    consumer text   NOT NULL {bytewise} PRIMARY KEY,
    position bigint NOT NULL
);
-- What happened before there was e-mail is not told by it.
INSERT INTO event_consumer (consumer, position) SELECT 'mail', last_position FROM event_feed;

CREATE TABLE mail (
    -- No foreign key: the row of the organization would be locked for each letter, and many of them are queued at once. A purge deletes
    -- the letters, and one without an organization is dropped.
    organization_id uuid        NOT NULL,
    mail_id         uuid        NOT NULL,
    -- What it tells of.
    event_number    bigint      NOT NULL,
    -- To whom; empty where that is only known when it is due.
    recipient       text        NOT NULL {bytewise},
    -- What kind of letter, and what it has to say beyond what is looked up when it is sent.
    kind            text        NOT NULL {bytewise},
    letter          jsonb       NOT NULL,
    invitation_id   uuid,
    state           text        NOT NULL {bytewise},
    attempts        bigint      NOT NULL DEFAULT 0,
    created_at      timestamptz NOT NULL,
    -- When it is sent or tried again. Whoever tries it puts that off first, so that no other does meanwhile.
    due_at          timestamptz NOT NULL,
    -- When it was sent, parked or dropped.
    ended_at        timestamptz,
    -- Why it was not sent.
    failure         text        NOT NULL DEFAULT '',

    PRIMARY KEY (organization_id, mail_id),
    CONSTRAINT mail_once_for_each_event UNIQUE (organization_id, event_number, recipient),
    CONSTRAINT mail_state_known CHECK (state IN ('queued', 'sent', 'parked', 'dropped')),
    CONSTRAINT mail_ended CHECK ((state = 'queued') = (ended_at IS NULL))
);

CREATE INDEX mail_due ON mail (due_at) WHERE state = 'queued';
CREATE INDEX mail_parked ON mail (organization_id) WHERE state = 'parked';
CREATE INDEX mail_old ON mail (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX mail_of_invitation ON mail (organization_id, invitation_id) WHERE state = 'queued';

-- Hashes of the tokens that were sent by e-mail; that of the answer stands with the invitation.
CREATE TABLE invitation_token (
    organization_id uuid        NOT NULL,
    invitation_id   uuid        NOT NULL,
    token_hash      bytea       NOT NULL,
    -- When the invitation was sent that the letter tells of: once it is sent again, the token is worthless.
    sent_at         timestamptz NOT NULL,

    PRIMARY KEY (organization_id, invitation_id, token_hash),
    CONSTRAINT invitation_token_of_an_invitation FOREIGN KEY (organization_id, invitation_id)
        REFERENCES invitation (organization_id, invitation_id) ON DELETE CASCADE
);

-- The address of who was removed, until they are told.
ALTER TABLE former_member ADD COLUMN email text;
