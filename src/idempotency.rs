//! Answers kept for repeated requests.
//!
//! The same `request_id` from the same caller gives the answer that it was given first, for 24 hours. The answer is stored
//! in the transaction of the change, sealed with a key that is figured from the `request_id`, of which only a hash is
//! stored: an answer may hold invitation tokens, and nobody who reads the database shall find one.

use chrono::{DateTime, TimeDelta, Utc};
use prost::Message;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest::{Context, SHA256};
use ring::rand::{SecureRandom as _, SystemRandom};
use sea_orm::{ColumnTrait as _, ConnectionTrait, EntityTrait as _, IntoActiveModel as _, QueryFilter as _};
use uuid::Uuid;

use crate::auth::caller::Caller;
use crate::entity::stored_answer;
use crate::error::{Error, OnConstraint as _};
use crate::fields::parse_uuid;
use crate::pb::MutationRequest;
use crate::sql;

/// How long an answer is kept.
pub const KEPT: TimeDelta = TimeDelta::hours(24);

/// What makes a request the same one: where, who, which id, and what it asks.
#[derive(Clone, Debug)]
pub struct RequestKey {
    organization_id: Uuid,
    caller: String,
    id_hash: Vec<u8>,
    payload_hash: Vec<u8>,
    sealing: [u8; 32],
}

impl RequestKey {
    /// The key of a request; none when it came without a `request_id`.
    ///
    /// # Errors
    ///
    /// When the `request_id` is no UUID.
    pub fn of<R: MutationRequest + Message>(
        request: &R,
        caller: &Caller,
        organization_id: Uuid,
    ) -> Result<Option<Self>, Error> {
        let Some(request_id) = request_id(request)? else { return Ok(None) };
        let caller = match caller {
            Caller::User(user) => format!("user:{}", user.user_id.as_str()),
            Caller::Service(service) => format!("service:{}", service.as_str()),
        };
        let id = request_id.as_bytes().as_slice();
        Ok(Some(Self {
            organization_id,
            id_hash: hash(&[b"request", id]).to_vec(),
            payload_hash: hash(&[R::METHOD.as_bytes(), &request.without_request_id().encode_to_vec()]).to_vec(),
            sealing: hash(&[b"seal", caller.as_bytes(), id]),
            caller,
        }))
    }

    /// The answer that this request was given before.
    ///
    /// # Errors
    ///
    /// `REQUEST_ID_REUSED` when the id came with another request.
    pub async fn find<A: Message + Default>(
        &self,
        connection: &impl ConnectionTrait,
        now: DateTime<Utc>,
    ) -> Result<Option<A>, Error> {
        let key = (self.organization_id, self.caller.clone(), self.id_hash.clone());
        let Some(stored) = stored_answer::Entity::find_by_id(key).one(connection).await? else { return Ok(None) };
        if stored.created_at + KEPT <= now {
            self.forget(connection, now).await?;
            return Ok(None);
        }
        if stored.payload_hash != self.payload_hash {
            return Err(Error::RequestIdReused);
        }
        let answer = self.open(stored.sealed_answer)?;
        let answer = A::decode(answer.as_slice())
            .map_err(|error| Error::Defect("a stored answer could not be read", Some(error.into())))?;
        Ok(Some(answer))
    }

    /// Forgets the answer that was kept long enough, but not one that the same request was given anew since this one looked.
    async fn forget(&self, connection: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<(), Error> {
        use stored_answer::Column as C;
        stored_answer::Entity::delete_many()
            .filter(C::OrganizationId.eq(self.organization_id))
            .filter(C::Caller.eq(self.caller.clone()))
            .filter(C::RequestKey.eq(self.id_hash.clone()))
            .filter(C::CreatedAt.lte(now - KEPT))
            .exec(connection)
            .await?;
        Ok(())
    }

    /// Keeps the answer. When another call with the same id came first, the transaction has lost and is to begin again: it
    /// will find that call's answer.
    pub async fn store(
        &self,
        connection: &impl ConnectionTrait,
        answer: &impl Message,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        let row = stored_answer::Model {
            organization_id: self.organization_id,
            caller: self.caller.clone(),
            request_key: self.id_hash.clone(),
            payload_hash: self.payload_hash.clone(),
            sealed_answer: self.seal(answer.encode_to_vec())?,
            created_at: now,
        };
        stored_answer::Entity::insert(row.into_active_model())
            .exec_without_returning(connection)
            .await
            .on_constraint("stored_answer_once", || Error::Conflict)?;
        Ok(())
    }

    fn cipher(&self) -> Result<LessSafeKey, Error> {
        let key = UnboundKey::new(&CHACHA20_POLY1305, &self.sealing).map_err(|_| Error::defect("no sealing key"))?;
        Ok(LessSafeKey::new(key))
    }

    fn seal(&self, mut answer: Vec<u8>) -> Result<Vec<u8>, Error> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| Error::defect("no random numbers"))?;
        self.cipher()?
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut answer)
            .map_err(|_| Error::defect("an answer could not be sealed"))?;
        Ok([nonce.as_slice(), &answer].concat())
    }

    fn open(&self, mut sealed: Vec<u8>) -> Result<Vec<u8>, Error> {
        let unreadable = || Error::defect("a stored answer could not be opened");
        let (nonce, answer) = sealed.split_at_mut_checked(NONCE_LEN).ok_or_else(unreadable)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| unreadable())?;
        let opened = self.cipher()?.open_in_place(nonce, Aad::empty(), answer).map_err(|_| unreadable())?;
        Ok(opened.to_vec())
    }
}

/// Reads the `request_id`: a UUID, or empty.
pub fn request_id<R: MutationRequest>(request: &R) -> Result<Option<Uuid>, Error> {
    let text = request.request_id();
    if text.is_empty() {
        return Ok(None);
    }
    let mut fields = crate::fields::Fields::new();
    if parse_uuid(text).is_none() {
        fields.fault("request_id", "must be a UUID of the caller's making, or empty");
    }
    fields.done(parse_uuid(text))
}

/// Forgets some of the answers that were kept long enough, and says how many.
pub async fn prune(connection: &impl ConnectionTrait, now: DateTime<Utc>, limit: u64) -> Result<u64, sea_orm::DbErr> {
    use stored_answer::Column as C;
    let key = [C::OrganizationId, C::Caller, C::RequestKey];
    sql::delete_some::<stored_answer::Entity>(connection, &key, C::CreatedAt.lte(now - KEPT), limit).await
}

/// SHA-256 of parts, each preceded by its length, so that no two lists of parts read alike.
fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&part.len().to_be_bytes());
        context.update(part);
    }
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
