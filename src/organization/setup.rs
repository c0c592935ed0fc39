//! The checklist of first steps, figured from how an organization is: a pure function of facts.

use super::settings::Setup;
use crate::pb::{SetupChecklist, SetupStep, SetupStepKind};

/// What the steps are figured from.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// It has a description.
    pub described: bool,
    /// It has a logo.
    pub has_logo: bool,
    /// How many active members hold the top role.
    pub top_role_members: i64,
    /// Somebody was invited or has come.
    pub invited: bool,
    /// Its billing profile has a name; nothing to whoever may not know.
    pub has_billing_profile: Option<bool>,
    /// Whether it has a payment method, where its plan costs something that a provider collects and whoever asks may know.
    pub has_payment_method: Option<bool>,
}

/// The steps, in the order in which they are best taken.
#[must_use]
pub fn checklist(facts: Facts, setup: &Setup) -> SetupChecklist {
    let step = |kind: SetupStepKind, done: bool| SetupStep {
        kind: kind.into(),
        done,
        dismissed: setup.dismissed_steps.contains(&i32::from(kind)),
    };
    let mut steps = vec![
        step(SetupStepKind::Profile, facts.described),
        step(SetupStepKind::Logo, facts.has_logo),
        step(SetupStepKind::SecondTopRoleMember, facts.top_role_members >= 2),
        step(SetupStepKind::FirstInvitation, facts.invited),
    ];
    steps.extend(facts.has_billing_profile.map(|has| step(SetupStepKind::BillingProfile, has)));
    steps.extend(facts.has_payment_method.map(|has| step(SetupStepKind::PaymentMethod, has)));
    let done = steps.iter().map(|step| i32::from(step.done)).sum();
    let closed = setup.dismissed || steps.iter().all(|step| step.done || step.dismissed);
    SetupChecklist { steps, done, closed }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_checklist_is_open_while_a_step_is_left(
            [described, has_logo, invited, has_billing_profile, sees, pays, has_method, dismissed] in any::<[bool; 8]>(),
            top_role_members in 1..4i64,
            dismissed_steps in prop::collection::vec(1..=7i32, 0..7),
        ) {
            let has_billing_profile = sees.then_some(has_billing_profile);
            let has_payment_method = pays.then_some(has_method);
            let facts = Facts { described, has_logo, top_role_members, invited, has_billing_profile, has_payment_method };
            let setup = Setup { dismissed, dismissed_steps: dismissed_steps.clone() };
            let SetupChecklist { steps, done, closed } = checklist(facts, &setup);
            let kinds: Vec<i32> = steps.iter().map(|step| step.kind).collect();
            let asked = [(1, true), (2, true), (3, true), (4, true), (5, sees), (6, pays)];
            prop_assert_eq!(kinds, asked.iter().filter(|(_, asked)| *asked).map(|(kind, _)| *kind).collect::<Vec<i32>>());
            let mut dones = vec![described, has_logo, top_role_members > 1, invited];
            dones.extend(has_billing_profile);
            dones.extend(has_payment_method);
            prop_assert!(steps.iter().zip(dones).all(|(step, done)| step.done == done));
            prop_assert!(steps.iter().all(|step| step.dismissed == dismissed_steps.contains(&step.kind)));
            prop_assert_eq!(usize::try_from(done).unwrap(), steps.iter().filter(|step| step.done).count());
            let left = steps.iter().filter(|step| !step.done && !step.dismissed).count();
            prop_assert_eq!(closed, dismissed || left == 0);
        }
    }
}
