-- What of an invoice was given back, so that no invoice gives back more than it charged; and use that is not charged.
--
-- Only additions: the version before runs on beside this one, and leaves them empty.

-- What an invoice charges, tax on top included, whatever it gives back of others; NULL of a draft, and of those of an older version.
ALTER TABLE invoice ADD COLUMN charged_minor bigint;
-- What was given back of that since: by lines of later invoices, and by credit notes.
ALTER TABLE invoice ADD COLUMN given_back_minor bigint NOT NULL DEFAULT 0
    CONSTRAINT invoice_given_back_once CHECK (charged_minor IS NULL OR given_back_minor <= charged_minor);

-- Of a line that gives back: the invoice on which it was charged, and the tax that goes back with it.
ALTER TABLE invoice_line ADD COLUMN credited_invoice_id uuid;
ALTER TABLE invoice_line ADD COLUMN returned_tax_minor bigint;

-- What was used of a meter beyond what is included, before its add-on was had: it is not charged.
ALTER TABLE usage_total ADD COLUMN waived bigint NOT NULL DEFAULT 0
    CONSTRAINT usage_total_waived_not_negative CHECK (waived >= 0);
