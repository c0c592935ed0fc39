-- Credit that came from invoices that were given up then: it is taken back, and what is given back from then on makes the rest good.

-- How much of it is still to be made good; it is never asked for.
ALTER TABLE subscription ADD COLUMN unpaid_credit_minor bigint NOT NULL DEFAULT 0
    CONSTRAINT subscription_unpaid_credit_not_negative CHECK (unpaid_credit_minor >= 0);
-- How much came from this invoice, made good or not, until it is paid after all.
ALTER TABLE invoice ADD COLUMN unpaid_credit_minor bigint NOT NULL DEFAULT 0
    CONSTRAINT invoice_unpaid_credit_not_negative CHECK (unpaid_credit_minor >= 0);

-- Another cause of entries. SQLite changes a constraint by making the table anew.
{postgres} ALTER TABLE credit_entry DROP CONSTRAINT credit_entry_cause_known;
{postgres} ALTER TABLE credit_entry ADD CONSTRAINT credit_entry_cause_known
{postgres}     CHECK (cause IN ('negative_invoice', 'applied', 'invoice_voided', 'credit_note', 'overpaid', 'invoice_uncollectible'));
{sqlite} CREATE TABLE credit_entry_anew (
{sqlite}     organization_id uuid        NOT NULL REFERENCES organization (organization_id) ON DELETE CASCADE,
{sqlite}     number          bigint      NOT NULL,
{sqlite}     amount_minor    bigint      NOT NULL,
{sqlite}     balance_minor   bigint      NOT NULL,
{sqlite}     currency        text        NOT NULL {bytewise},
{sqlite}     cause           text        NOT NULL {bytewise},
{sqlite}     invoice_id      uuid        NOT NULL,
{sqlite}     credit_note_id  uuid,
{sqlite}     occurred_at     timestamptz NOT NULL,
{sqlite}     CONSTRAINT credit_entry_number_gap_free PRIMARY KEY (organization_id, number),
{sqlite}     CONSTRAINT credit_entry_balance_not_negative CHECK (balance_minor >= 0),
{sqlite}     CONSTRAINT credit_entry_cause_known CHECK (
{sqlite}         cause IN ('negative_invoice', 'applied', 'invoice_voided', 'credit_note', 'overpaid', 'invoice_uncollectible'))
{sqlite} );
{sqlite} INSERT INTO credit_entry_anew
{sqlite}     (organization_id, number, amount_minor, balance_minor, currency, cause, invoice_id, credit_note_id, occurred_at)
{sqlite}     SELECT organization_id, number, amount_minor, balance_minor, currency, cause, invoice_id, credit_note_id, occurred_at
{sqlite}     FROM credit_entry;
{sqlite} DROP TABLE credit_entry;
{sqlite} ALTER TABLE credit_entry_anew RENAME TO credit_entry;
