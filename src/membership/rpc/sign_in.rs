//! RecordSignIn.

use chrono::{DateTime, TimeDelta, Utc};

use super::shown;
use crate::app::App;
use crate::email::Email;
use crate::error::Error;
use crate::event::Change;
use crate::fields::Fields;
use crate::membership::{Profile, store};
use crate::operation::{Command, Trusted, Unit};
use crate::pb;

/// How far ahead of this server's clock a sign-in may be: two machines never agree to the second.
const CLOCK_LEEWAY: TimeDelta = TimeDelta::minutes(1);

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
        let at = fields.time("sign_in_time", request.sign_in_time.as_ref());
        if at.is_some_and(|at| at > app.clock.now() + CLOCK_LEEWAY) {
            fields.fault("sign_in_time", "must not be in the future");
        }
        let email = if request.email.is_empty() { None } else { fields.email("email", &request.email) };
        let profile = request.profile.as_ref().map(|profile| Profile::read(&mut fields, "profile", Some(profile)));
        fields.done(Self { user_id, at, email, profile })
    }

    async fn run(&self, unit: &mut Unit<'_, Trusted>) -> Result<Self::Response, Error> {
        let missing = || Error::MemberNotFound { user_id: self.user_id.clone() };
        let mut row = store::find(unit.transaction(), unit.scope(), &self.user_id).await?.ok_or_else(missing)?;
        let at = self.at.unwrap_or(unit.now);
        // An older sign-in that is told late says nothing about the member as they are now.
        if at >= row.last_sign_in_at {
            row.last_sign_in_at = at;
            if let Some(email) = &self.email {
                row.email.clone_from(&email.written);
                row.email_normalized.clone_from(&email.normalized);
            }
            if let Some(profile) = &self.profile {
                row.display_name.clone_from(&profile.display_name);
                row.avatar_uri.clone_from(&profile.avatar_uri);
            }
            store::index(&mut row);
            row.version += 1;
            store::update_profile(unit, &row).await?;
        }
        unit.record(Change::MemberSignedIn { user_id: row.user_id.clone(), sign_in_time: at.to_rfc3339() });
        Ok(pb::RecordSignInResponse { member: Some(shown(&row)) })
    }
}
