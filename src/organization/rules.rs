//! What may be done with an organization, as pure functions.

use chrono::TimeDelta;

use crate::entity::subscription::Status;
use crate::error::Blocker;
use crate::text;

/// How long a deleted organization can be undeleted.
pub const UNDELETE_WITHIN: TimeDelta = TimeDelta::days(30);

/// The longest slug: what a DNS label takes.
const LONGEST_SLUG: usize = 63;

/// What must end before an organization can be deleted: nobody shall go on paying for what is gone.
#[must_use]
pub fn deletion_blockers(plan_id: &str, status: Status, charged: bool, unpaid_invoices: usize) -> Vec<Blocker> {
    let mut blockers = Vec::new();
    if charged && status != Status::Canceled {
        blockers.push(Blocker {
            kind: "LIVE_SUBSCRIPTION",
            subject: format!("plan {plan_id}"),
            description: "the subscription is live; cancel it first".into(),
        });
    }
    if unpaid_invoices > 0 {
        blockers.push(Blocker {
            kind: "UNPAID_INVOICE",
            subject: format!("{unpaid_invoices} invoice(s)"),
            description: "an invoice is open; have it paid or voided first".into(),
        });
    }
    blockers
}

/// Whether a text is a slug: 3 to 63 of a–z, 0–9 and hyphens, with no hyphen at either end.
#[must_use]
pub fn is_slug(slug: &str) -> bool {
    (3..=LONGEST_SLUG).contains(&slug.len())
        && slug.bytes().all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == b'-')
        && !slug.starts_with('-')
        && !slug.ends_with('-')
}

/// A slug that resembles a name, with room for a suffix that makes it unique.
#[must_use]
pub fn slug_of(name: &str) -> String {
    slug_like(name, "org")
}

/// A slug that resembles a name, and begins with `filler` when too little of the name can stand in one.
#[must_use]
pub fn slug_like(name: &str, filler: &str) -> String {
    let folded = text::fold(name);
    let words = folded.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut slug = words.collect::<Vec<_>>().join("-");
    slug.truncate(LONGEST_SLUG - 9);
    let slug = slug.trim_end_matches('-');
    if slug.len() < 3 { format!("{filler}-{slug}").trim_end_matches('-').to_owned() } else { slug.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_name_has_a_slug(name in "\\PC{0,120}") {
            let slug = slug_of(&name);
            prop_assert!(is_slug(&slug), "{:?} gives {:?}", name, slug);
            let suffixed = format!("{slug}-12345678");
            prop_assert!(is_slug(&suffixed));
        }
    }

    #[test]
    fn a_slug_reads_like_its_name() {
        assert_eq!(slug_of("Müller & Söhne GmbH"), "muller-sohne-gmbh");
        assert_eq!(slug_of("日本"), "org");
        assert_eq!(slug_of("A"), "org-a");
        assert_eq!(slug_like("A", "room"), "room-a");
    }

    #[test]
    fn only_a_live_subscription_that_costs_something_or_an_open_invoice_blocks() {
        let kinds = |status, charged, unpaid| -> Vec<&str> {
            deletion_blockers("team", status, charged, unpaid).iter().map(|blocker| blocker.kind).collect()
        };
        assert!(kinds(Status::Active, false, 0).is_empty() && kinds(Status::Canceled, true, 0).is_empty());
        for status in [Status::Active, Status::PastDue, Status::Trialing, Status::Unpaid] {
            assert_eq!(kinds(status, true, 0), ["LIVE_SUBSCRIPTION"]);
        }
        assert_eq!(kinds(Status::Canceled, true, 2), ["UNPAID_INVOICE"]);
        assert_eq!(kinds(Status::Active, true, 1), ["LIVE_SUBSCRIPTION", "UNPAID_INVOICE"]);
    }
}
