//! Writes a letter when it is to be sent, from what is so then.

use chrono::{DateTime, Utc};
use lettre::message::header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue};
use lettre::message::{Body, Mailbox, MultiPart, SinglePart};
use lettre::{Address, Message};
use minijinja::{Value, context};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait as _, IntoActiveModel as _, QuerySelect as _};
use uuid::Uuid;

use super::letter::Letter;
use super::post::{Post, Undelivered};
use super::templates::Written;
use super::{Mail, TOKEN};
use crate::app::App;
use crate::auth::policy::RolePolicy;
use crate::auth::scope::Scope;
use crate::billing::account::subscription_of;
use crate::billing::catalogue::TrialEnd;
use crate::billing::money::Currency;
use crate::billing::subscription::Subscription;
use crate::billing::{shown, store as billing};
use crate::email::Email;
use crate::entity::subscription::Status;
use crate::entity::{invitation, invitation_token, invoice, mail, membership, organization, subscription};
use crate::error::Error;
use crate::membership::rules;
use crate::membership::token::Token;
use crate::operation::store;
use crate::organization::days::zone_of;
use crate::organization::settings::{self, Settings};

/// Writes a letter; nothing when there is nothing to tell any more. It may be that it cannot be written, and why.
pub(super) async fn write(
    app: &App,
    mail: &Mail,
    row: &mail::Model,
    letter: Letter,
) -> Result<Option<Result<Message, Undelivered>>, Error> {
    let (reader, scope) = (app.database.reader(), Scope::of_newcomer(row.organization_id));
    let organization = store::find(reader, scope).await?.filter(|found| found.deleted_at.is_none());
    let Some(organization) = organization else { return Ok(None) };
    let chosen = settings::store::find(reader, scope).await?;
    let settings = Settings::of(&organization, chosen.as_ref())?;
    let language = mail.templates.nearest(&settings.branding.mail_language).unwrap_or(&mail.language);
    let policy = store::policy_of(reader, &app.policy, Some(&organization)).await?;
    let kind = letter.kind();
    let Some(own) = facts(app, mail, &organization, &policy, letter).await? else { return Ok(None) };
    let shared = context! {
        language,
        product => mail.product(),
        recipient => row.recipient.as_str(),
        organization => context! {
            name => organization.name.as_str(),
            logo_uri => settings.branding.logo_uri.as_str(),
            primary_color => settings.branding.primary_color.as_str(),
            accent_color => settings.branding.accent_color.as_str(),
        },
    };
    let written = mail.templates.write(language, kind, &context! { ..own, ..shared });
    // Somebody mends the template, and starts anew.
    let written = written.map_err(|reason| Undelivered { reason, for_good: false });
    Ok(Some(written.and_then(|written| message(mail, row, written))))
}

/// Puts a letter into its envelope.
fn message(mail: &Mail, row: &mail::Model, written: Written) -> Result<Message, Undelivered> {
    // The domain in its ASCII form: not every server knows the other.
    let email = Email::parse(&row.recipient).ok();
    let address = email.and_then(|email| {
        let (local, _) = email.written.rsplit_once('@')?;
        Address::new(local, email.domain()).ok()
    });
    let unknown =
        || Undelivered { reason: "the address is none that e-mail can be sent to".to_owned(), for_good: true };
    let address = address.ok_or_else(unknown)?;
    // Whoever gets it twice can tell by this that it is one.
    let id = format!("<{}@{}>", row.mail_id, mail.from.email.domain());
    Message::builder()
        .message_id(Some(id))
        .from(mail.from.clone())
        .to(Mailbox::new(None, address))
        .subject(written.subject)
        .date_now()
        // Nobody's absence is to answer it (RFC 3834).
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()))
        .multipart(
            MultiPart::alternative().singlepart(text(mail, written.text)).singlepart(SinglePart::html(written.html)),
        )
        .map_err(|error| Undelivered { reason: error.to_string(), for_good: true })
}

/// The part without markup. In a folder somebody reads it as it is, and copies the link.
fn text(mail: &Mail, text: String) -> SinglePart {
    if let Post::Folder(_) = mail.post
        && let Ok(body) = Body::new_with_encoding(text.clone(), ContentTransferEncoding::Binary)
    {
        return SinglePart::builder().header(ContentType::TEXT_PLAIN).body(body);
    }
    SinglePart::plain(text)
}

/// What a letter says beyond what all say; nothing when it is not so any more.
async fn facts(
    app: &App,
    mail: &Mail,
    organization: &organization::Model,
    policy: &RolePolicy,
    letter: Letter,
) -> Result<Option<Value>, Error> {
    let (reader, scope) = (app.database.reader(), Scope::of_newcomer(organization.organization_id));
    let title = |role: &str| policy.role(role).map_or_else(|| role.to_owned(), |role| role.title.clone());
    Ok(Some(match letter {
        Letter::Invitation { invitation_id, sent_at } => {
            let Some((row, token)) = mint(app, scope, invitation_id, sent_at).await? else { return Ok(None) };
            context! {
                inviter => name_of(reader, scope, Some(&row.inviter_user_id)).await?,
                role => title(&row.role),
                url => mail.invitation_url.replace(TOKEN, &token.write()),
                expires => told(row.expires_at, organization),
                resent => row.send_count > 1,
            }
        }
        Letter::InvitationAccepted { user_id } => {
            let Some(member) = store::find_member(reader, scope, &user_id).await? else { return Ok(None) };
            context! { role => title(&member.role), member => called(member) }
        }
        Letter::RoleChanged { user_id, before, after, by } => {
            let member = store::find_member(reader, scope, &user_id).await?;
            if member.is_none_or(|member| member.role != after) {
                return Ok(None);
            }
            context! {
                before => title(&before),
                after => title(&after),
                by => name_of(reader, scope, by.as_deref()).await?,
            }
        }
        Letter::MemberRemoved { user_id, by } => {
            if store::find_member(reader, scope, &user_id).await?.is_some() {
                return Ok(None);
            }
            context! { by => name_of(reader, scope, by.as_deref()).await? }
        }
        Letter::SeatsFull { seats } => {
            let usage = store::find_usage(reader, scope, app.clock.now()).await?;
            if usage.total != seats || usage.available() > 0 {
                return Ok(None);
            }
            context! { seats }
        }
        Letter::TrialEnding { trial_end } => {
            let row = subscription::Entity::find_by_id(organization.organization_id).one(reader).await?;
            let Some(row) = row.filter(|row| row.status == Status::Trialing) else { return Ok(None) };
            let subscription = subscription_of(&row, &app.catalogue, app.clock.now())?;
            let agreement = &subscription.agreement;
            if agreement.trial_end != Some(trial_end) || trial_end <= app.clock.now() {
                return Ok(None);
            }
            context! {
                plan => agreement.terms.title.as_str(),
                ends => told(trial_end, organization),
                charged => is_charged_after(app, scope, &subscription).await?,
            }
        }
        Letter::PaymentFailed { invoice_id, failure } => {
            let found = billing::load_invoice(reader, scope, invoice_id).await?;
            if found.state != invoice::State::Open {
                return Ok(None);
            }
            let row = subscription::Entity::find_by_id(organization.organization_id).one(reader).await?;
            let grace_end = row
                .filter(|row| row.status == Status::PastDue)
                .map(|row| subscription_of(&row, &app.catalogue, app.clock.now()))
                .transpose()?
                .and_then(|subscription| subscription.grace_end(&app.catalogue.policy));
            let due = found.due_minor();
            let currency = Currency::parse(&found.currency).ok_or(Error::defect("an invoice in no currency"))?;
            context! {
                invoice_number => shown::printed_number(found.organization_id, "", found.number.unwrap_or_default()),
                due => currency.written(due),
                failure,
                grace_end => grace_end.map(|at| told(at, organization)).unwrap_or_default(),
            }
        }
    }))
}

/// Whether a trial is followed by a period that is charged, as things stand.
async fn is_charged_after(app: &App, scope: Scope, subscription: &Subscription) -> Result<bool, Error> {
    let agreement = &subscription.agreement;
    if agreement.ends_with_period || !subscription.is_charged() {
        return Ok(false);
    }
    if agreement.terms.trial_end != TrialEnd::Cancel {
        return Ok(true);
    }
    let methods = billing::list_payment_methods(app.database.reader(), scope).await?;
    Ok(methods.iter().any(|method| method.is_default))
}

/// Makes a token for a letter, if the invitation is still the one that it tells of. Only a hash of it is kept, and one for each
/// attempt: nobody knows which of them arrive.
async fn mint(
    app: &App,
    scope: Scope,
    invitation_id: Uuid,
    sent_at: DateTime<Utc>,
) -> Result<Option<(invitation::Model, Token)>, Error> {
    let token = Token::make(scope.organization_id(), invitation_id).ok_or(Error::defect("no random numbers"))?;
    let transaction = app.database.begin().await?;
    // Locked, so that one which is sent again right now is seen here, or makes this token worthless.
    let found = find_locked(&transaction, scope, invitation_id).await?;
    let found = found.filter(|found| found.sent_at == sent_at && rules::open(found, app.clock.now()).is_ok());
    let Some(found) = found else { return Ok(None) };
    let kept = invitation_token::Model {
        organization_id: scope.organization_id(),
        invitation_id,
        token_hash: token.hash(),
        sent_at,
    };
    invitation_token::Entity::insert(kept.into_active_model()).exec_without_returning(&transaction).await?;
    transaction.commit().await?;
    Ok(Some((found, token)))
}

async fn find_locked(
    connection: &impl ConnectionTrait,
    scope: Scope,
    invitation_id: Uuid,
) -> Result<Option<invitation::Model>, DbErr> {
    let key = (scope.organization_id(), invitation_id);
    invitation::Entity::find_by_id(key).lock_exclusive().one(connection).await
}

/// What people call a member; empty when nobody did it, or somebody who is no member any more.
async fn name_of(connection: &impl ConnectionTrait, scope: Scope, user_id: Option<&str>) -> Result<String, DbErr> {
    let Some(user_id) = user_id else { return Ok(String::new()) };
    let member = store::find_member(connection, scope, user_id).await?;
    Ok(member.map(called).unwrap_or_default())
}

fn called(member: membership::Model) -> String {
    if member.display_name.is_empty() { member.email } else { member.display_name }
}

/// A time in the organization's time zone.
fn told(at: DateTime<Utc>, organization: &organization::Model) -> String {
    let zone = zone_of(&organization.time_zone);
    format!("{} {zone}", at.with_timezone(&zone).format("%Y-%m-%d %H:%M"))
}
