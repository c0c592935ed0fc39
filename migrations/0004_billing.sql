-- Billing: what a subscription agreed on, invoices, payments, credit, usage, the ledger of seats.
--
-- Only additions: the version before runs on beside this one.

-- What was agreed on and what was charged for the period under way; NULL until billing first looks at a subscription that an
-- older version or an import wrote.
ALTER TABLE subscription ADD COLUMN agreement jsonb;
-- When billing has to look at it next: at once where nobody has yet, never (NULL) where nothing is to come.
ALTER TABLE subscription ADD COLUMN due_at timestamptz DEFAULT '1970-01-01T00:00:00+00:00';
-- The currency in which the organization is billed, from its first invoice on.
ALTER TABLE subscription ADD COLUMN currency text {bytewise};
-- The numbers that were given last: they are given under the organization's lock, so they have no gaps.
ALTER TABLE subscription ADD COLUMN last_invoice_number bigint NOT NULL DEFAULT 0;
ALTER TABLE subscription ADD COLUMN last_credit_note_number bigint NOT NULL DEFAULT 0;
ALTER TABLE subscription ADD COLUMN last_credit_entry_number bigint NOT NULL DEFAULT 0;
ALTER TABLE subscription ADD COLUMN credit_minor bigint NOT NULL DEFAULT 0
    CONSTRAINT subscription_credit_not_negative CHECK (credit_minor >= 0);
-- How often in a row billing failed at it, and until when it is left alone for that.
ALTER TABLE subscription ADD COLUMN failures bigint NOT NULL DEFAULT 0;
ALTER TABLE subscription ADD COLUMN retry_at timestamptz;
-- The customer as the payment provider knows it.
ALTER TABLE subscription ADD COLUMN provider_customer text {bytewise};

CREATE INDEX subscription_due ON subscription (due_at) WHERE due_at IS NOT NULL;

-- How the organization is taxed, as a service said.
ALTER TABLE billing_profile ADD COLUMN tax jsonb;

CREATE TABLE invoice (
    organization_id  uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    invoice_id       uuid        NOT NULL,
    -- 1, 2, 3 … without a gap in each organization; none of a draft.
    number           bigint,
    state            text        NOT NULL {bytewise},
    currency         text        NOT NULL {bytewise},
    subtotal_minor   bigint      NOT NULL,
    tax_minor        bigint      NOT NULL,
    total_minor      bigint      NOT NULL,
    credit_applied_minor bigint  NOT NULL,
    -- What credit notes took off what was due.
    credited_minor   bigint      NOT NULL,
    paid_minor       bigint      NOT NULL,
    -- To whom it is written and how it is taxed, as it was when it became open.
    recipient        jsonb,
    created_at       timestamptz NOT NULL,
    finalized_at     timestamptz,
    due_at           timestamptz,
    closed_at        timestamptz,

    PRIMARY KEY (organization_id, invoice_id),
    CONSTRAINT invoice_number_unique UNIQUE (organization_id, number),
    CONSTRAINT invoice_state_known CHECK (state IN ('draft', 'open', 'paid', 'void', 'uncollectible')),
    CONSTRAINT invoice_numbered_unless_draft CHECK ((number IS NULL) = (state = 'draft')),
    CONSTRAINT invoice_finalized_unless_draft CHECK ((finalized_at IS NULL) = (state = 'draft')),
    CONSTRAINT invoice_not_overpaid CHECK (total_minor <= 0 OR credit_applied_minor + credited_minor + paid_minor <= total_minor),
    CONSTRAINT invoice_paid_when_nothing_is_due CHECK (state <> 'paid' OR total_minor <= 0
        OR credit_applied_minor + credited_minor + paid_minor = total_minor)
);

-- One is collected at a time.
CREATE UNIQUE INDEX invoice_one_draft ON invoice (organization_id) WHERE state = 'draft';
CREATE INDEX invoice_open ON invoice (organization_id, due_at) WHERE state = 'open';

CREATE TABLE invoice_line (
    organization_id   uuid        NOT NULL,
    invoice_id        uuid        NOT NULL,
    -- 1, 2, 3 …
    position          bigint      NOT NULL,
    kind              text        NOT NULL {bytewise},
    description       text        NOT NULL,
    quantity          bigint,
    unit_price_minor  bigint,
    amount_minor      bigint      NOT NULL,
    period_start      timestamptz NOT NULL,
    period_end        timestamptz NOT NULL,
    prorated          boolean     NOT NULL,
    add_on_id         text        {bytewise},
    -- The rate in millionths; of a draft's line, only if it gives back what was taxed by another.
    tax_rate          bigint,
    tax_included      boolean,

    CONSTRAINT invoice_line_once PRIMARY KEY (organization_id, invoice_id, position),
    CONSTRAINT invoice_line_of_an_invoice FOREIGN KEY (organization_id, invoice_id)
        REFERENCES invoice (organization_id, invoice_id) ON DELETE CASCADE,
    CONSTRAINT invoice_line_kind_known CHECK (kind IN ('plan', 'seats', 'add_on', 'usage', 'tax'))
);

CREATE TABLE payment_method (
    organization_id   uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    payment_method_id uuid        NOT NULL,
    provider          text        NOT NULL {bytewise},
    reference         text        NOT NULL {bytewise},
    kind              text        NOT NULL,
    brand             text        NOT NULL,
    last4             text        NOT NULL,
    expiry_month      integer     NOT NULL,
    expiry_year       integer     NOT NULL,
    is_default        boolean     NOT NULL,
    created_at        timestamptz NOT NULL,

    PRIMARY KEY (organization_id, payment_method_id),
    CONSTRAINT payment_method_once UNIQUE (organization_id, provider, reference)
);

CREATE UNIQUE INDEX payment_method_one_default ON payment_method (organization_id) WHERE is_default;

CREATE TABLE payment (
    organization_id uuid        NOT NULL,
    payment_id      uuid        NOT NULL,
    invoice_id      uuid        NOT NULL,
    state           text        NOT NULL {bytewise},
    amount_minor    bigint      NOT NULL,
    currency        text        NOT NULL {bytewise},
    provider        text        NOT NULL {bytewise},
    -- None until the provider has answered.
    reference       text        {bytewise},
    failure         text        NOT NULL,
    created_at      timestamptz NOT NULL,
    ended_at        timestamptz,
    -- Of one that is pending: which server asks the provider for it, until when.
    claimed_until   timestamptz,
    -- With what it is asked for, so that it is asked for alike each time.
    request         jsonb,

    PRIMARY KEY (organization_id, payment_id),
    CONSTRAINT payment_of_an_invoice FOREIGN KEY (organization_id, invoice_id)
        REFERENCES invoice (organization_id, invoice_id) ON DELETE CASCADE,
    CONSTRAINT payment_state_known CHECK (state IN ('pending', 'succeeded', 'failed')),
    CONSTRAINT payment_ended_unless_pending CHECK ((ended_at IS NULL) = (state = 'pending')),
    CONSTRAINT payment_amount_not_negative CHECK (amount_minor >= 0)
);

-- A payment is recorded once.
CREATE UNIQUE INDEX payment_reference_once ON payment (organization_id, provider, reference) WHERE reference IS NOT NULL;
CREATE INDEX payment_by_invoice ON payment (organization_id, invoice_id, created_at);
-- An invoice is asked for once at a time.
CREATE UNIQUE INDEX payment_one_pending ON payment (organization_id, invoice_id) WHERE state = 'pending';
CREATE INDEX payment_pending ON payment (claimed_until) WHERE state = 'pending';
-- A webhook names a payment by the provider's word for it.
CREATE INDEX payment_by_reference ON payment (provider, reference) WHERE reference IS NOT NULL;

CREATE TABLE credit_note (
    organization_id uuid        NOT NULL,
    credit_note_id  uuid        NOT NULL,
    invoice_id      uuid        NOT NULL,
    number          bigint      NOT NULL,
    amount_minor    bigint      NOT NULL,
    tax_minor       bigint      NOT NULL,
    off_due_minor   bigint      NOT NULL,
    reason          text        NOT NULL,
    outcome         text        NOT NULL {bytewise},
    created_at      timestamptz NOT NULL,

    PRIMARY KEY (organization_id, credit_note_id),
    CONSTRAINT credit_note_of_an_invoice FOREIGN KEY (organization_id, invoice_id)
        REFERENCES invoice (organization_id, invoice_id) ON DELETE CASCADE,
    CONSTRAINT credit_note_number_unique UNIQUE (organization_id, number),
    CONSTRAINT credit_note_outcome_known CHECK (outcome IN ('credit_balance', 'paid_back')),
    CONSTRAINT credit_note_amount_positive CHECK (amount_minor > 0)
);

CREATE INDEX credit_note_by_invoice ON credit_note (organization_id, invoice_id);

-- The credit balance, as what was put in and taken out.
CREATE TABLE credit_entry (
    organization_id uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    -- 1, 2, 3 … without a gap in each organization.
    number          bigint      NOT NULL,
    amount_minor    bigint      NOT NULL,
    balance_minor   bigint      NOT NULL,
    currency        text        NOT NULL {bytewise},
    cause           text        NOT NULL {bytewise},
    invoice_id      uuid        NOT NULL,
    credit_note_id  uuid,
    occurred_at     timestamptz NOT NULL,

    CONSTRAINT credit_entry_number_gap_free PRIMARY KEY (organization_id, number),
    CONSTRAINT credit_entry_balance_not_negative CHECK (balance_minor >= 0),
    CONSTRAINT credit_entry_cause_known CHECK (cause IN ('negative_invoice', 'applied', 'invoice_voided', 'credit_note', 'overpaid'))
);

-- Every take and release of a seat, and every change of their number.
CREATE TABLE seat_entry (
    organization_id uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    -- In the order in which they were written.
    entry_id        uuid        NOT NULL,
    -- An expiry is written when a seat is next asked for; it happened when it happened.
    occurred_at     timestamptz NOT NULL,
    recorded_at     timestamptz NOT NULL,
    cause           text        NOT NULL {bytewise},
    subject         text        NOT NULL {bytewise},
    taken           bigint      NOT NULL,
    added           bigint      NOT NULL,
    -- How things stood after everything that was written together with it.
    members_after   bigint      NOT NULL,
    pending_after   bigint      NOT NULL,
    total_after     bigint      NOT NULL,

    CONSTRAINT seat_entry_once PRIMARY KEY (organization_id, entry_id)
);

-- The ledger of seats begins with what there is.
{postgres} INSERT INTO seat_entry SELECT organization_id, organization_id, now(), now(), 'opening_balance', '', active_members + pending_invitations, seats_total, active_members, pending_invitations, seats_total FROM organization;
{sqlite} INSERT INTO seat_entry SELECT organization_id, organization_id, strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now'), strftime('%Y-%m-%dT%H:%M:%S+00:00', 'now'), 'opening_balance', '', active_members + pending_invitations, seats_total, active_members, pending_invitations, seats_total FROM organization;

CREATE INDEX seat_entry_by_record ON seat_entry (organization_id, recorded_at);
CREATE INDEX seat_entry_expiries ON seat_entry (organization_id, recorded_at) WHERE cause = 'invitation_expired';

CREATE TABLE usage_report (
    organization_id uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    report_id       text        NOT NULL {bytewise},
    meter           text        NOT NULL {bytewise},
    quantity        bigint      NOT NULL,
    used_at         timestamptz NOT NULL,
    created_at      timestamptz NOT NULL,

    CONSTRAINT usage_report_once PRIMARY KEY (organization_id, report_id),
    CONSTRAINT usage_report_quantity_not_negative CHECK (quantity >= 0)
);

CREATE INDEX usage_report_by_time ON usage_report (organization_id, meter, used_at);

-- What was used of a meter in a billing period, and how much of it was billed.
CREATE TABLE usage_total (
    organization_id uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
    meter           text        NOT NULL {bytewise},
    period_start    timestamptz NOT NULL,
    period_end      timestamptz NOT NULL,
    used            bigint      NOT NULL,
    billed          bigint      NOT NULL,

    CONSTRAINT usage_total_once PRIMARY KEY (organization_id, meter, period_start),
    CONSTRAINT usage_total_not_negative CHECK (used >= 0 AND billed >= 0)
);

-- What the payment provider told, each once.
CREATE TABLE provider_event (
    provider   text        NOT NULL {bytewise},
    event_id   text        NOT NULL {bytewise},
    created_at timestamptz NOT NULL,

    CONSTRAINT provider_event_once PRIMARY KEY (provider, event_id)
);

CREATE INDEX provider_event_by_age ON provider_event (created_at);
