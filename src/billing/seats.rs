//! The seat rule: used = active members + pending invitations that have not expired, and no call makes it pass the total.

use crate::billing::catalogue::Terms;
use crate::entity::subscription::Status;
use crate::error::Error;

/// The seats of an organization at an instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The seats there are.
    pub total: i64,
    /// Used by active members.
    pub members: i64,
    /// Used by invitations that are open and not expired.
    pub pending: i64,
}

impl Usage {
    /// The seats in use.
    #[must_use]
    pub fn used(self) -> i64 {
        self.members + self.pending
    }

    /// The seats that are free; 0 when a forced cut left more in use than there are.
    #[must_use]
    pub fn available(self) -> i64 {
        (self.total - self.used()).max(0)
    }

    /// Whether this many more seats can be taken.
    pub fn take(self, requested: i64) -> Result<(), Error> {
        if requested <= self.available() { Ok(()) } else { Err(self.full(requested)) }
    }

    /// The refusal of a call that wanted this many seats.
    #[must_use]
    pub fn full(self, requested: i64) -> Error {
        Error::SeatLimitReached { total: self.total, members: self.members, pending: self.pending, requested }
    }

    /// Whether the number of seats can become this, under this plan.
    pub fn change_total(self, plan: &Terms, seats: i64) -> Result<(), Error> {
        if !plan.takes(seats) {
            return Err(Error::SeatsOutsidePlan {
                plan_id: plan.plan_id.clone(),
                requested: seats,
                minimum: plan.minimum_seats,
                maximum: plan.maximum_seats,
            });
        }
        if seats < self.used() {
            return Err(Error::SeatsBelowUsed { requested: seats, members: self.members, pending: self.pending });
        }
        Ok(())
    }
}

/// Whether the organization may grow: not while payment is overdue. Shrinking is never asked.
pub fn may_grow(status: Status) -> Result<(), Error> {
    match status {
        Status::Trialing | Status::Active | Status::Canceled => Ok(()),
        Status::PastDue => Err(Error::SubscriptionPastDue { status: "PAST_DUE" }),
        Status::Unpaid => Err(Error::SubscriptionPastDue { status: "UNPAID" }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn taking_never_passes_the_total(total in 0..50i64, members in 0..60i64, pending in 0..60i64, requested in 1..60i64) {
            let usage = Usage { total, members, pending };
            prop_assert_eq!(usage.take(requested).is_ok(), usage.used() + requested <= total);
        }

        #[test]
        fn the_total_never_falls_below_what_is_used(total in 0..50i64, members in 0..60i64, pending in 0..60i64, seats in -5..80i64) {
            let catalogue = crate::billing::catalogue::Catalogue::load(None).unwrap();
            let plan = catalogue.default_plan().unwrap().terms(None, None).unwrap();
            let usage = Usage { total, members, pending };
            let allowed = (1..=10).contains(&seats) && seats >= usage.used();
            prop_assert_eq!(usage.change_total(&plan, seats).is_ok(), allowed);
        }
    }
}
