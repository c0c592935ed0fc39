//! RecordSignIn.

use chrono::{DateTime, Utc};

use super::shown;
use crate::app::App;
use crate::email::Email;
use crate::entity::membership;
use crate::error::Error;
use crate::event::Change;
use crate::fields::Fields;
use crate::membership::{Profile, activity, store};
use crate::operation::{Command, Trusted, Unit};
use crate::pb;

pub(super) struct RecordSignIn {
    user_id: String,
    at: Option<DateTime<Utc>>,
    email: Option<Email>,
    profile: Option<Profile>,
}

impl Command for RecordSignIn {
    type Request = pb::RecordSignInRequest;
    type Response = pb::RecordSignInResponse;
    type Actor = Trusted;

    fn parse(request: &Self::Request, app: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let user_id = fields.user_id("user_id", &request.user_id);
        let at = fields.past_time("sign_in_time", request.sign_in_time.as_ref(), app.clock.now());
        let email = if request.email.is_empty() { None } else { fields.email("email", &request.email) };
        let profile = request.profile.as_ref().map(|profile| Profile::read(&mut fields, "profile", Some(profile)));
        fields.done(Self { user_id, at, email, profile })
    }

    async fn run(&self, unit: &mut Unit<'_, Trusted>) -> Result<Self::Response, Error> {
        let missing = || Error::MemberNotFound { user_id: self.user_id.clone() };
        let mut row = store::find(unit.transaction(), unit.scope(), &self.user_id).await?.ok_or_else(missing)?;
        // One that is ahead of this server's clock is of now: the next day has not begun here.
        let at = self.at.unwrap_or(unit.now).min(unit.now);
        let mut changed = Vec::new();
        // An older sign-in that is told late says nothing about the member as they are now.
        if at >= row.last_sign_in_at {
            let (last, day) = (unit.day_of(row.last_sign_in_at), unit.day_of(at));
            unit.count_activity(activity::of_sign_in(last, day, unit.today()));
            row.last_sign_in_at = at;
            changed = self.apply(&mut row);
            // That somebody signed in does not make stale what an administrator has read of them.
            if !changed.is_empty() {
                row.version += 1;
                store::index(&mut row);
                store::update_profile(unit, &row).await?;
            }
            store::update_last_sign_in(unit, &row).await?;
        }
        let (user_id, sign_in_time) = (row.user_id.clone(), at.to_rfc3339());
        unit.record(Change::MemberSignedIn { user_id, sign_in_time, changed });
        Ok(pb::RecordSignInResponse { member: Some(shown(&row)) })
    }
}

impl RecordSignIn {
    /// Sets what the identity provider says of the member, and gives the fields that were another before.
    fn apply(&self, row: &mut membership::Model) -> Vec<String> {
        let mut fields = Vec::new();
        if let Some(email) = &self.email {
            fields.push(("email", &email.written, &mut row.email));
            row.email_normalized.clone_from(&email.normalized);
        }
        if let Some(profile) = &self.profile {
            fields.push(("display_name", &profile.display_name, &mut row.display_name));
            fields.push(("avatar_uri", &profile.avatar_uri, &mut row.avatar_uri));
        }
        fields.retain(|(_, new, current)| *new != *current);
        let changed = fields.into_iter().map(|(field, new, current)| {
            current.clone_from(new);
            field.to_owned()
        });
        changed.collect()
    }
}
