//! The keys that may sign tokens, read from a secret or from a JSON Web Key Set (RFC 7517).
//!
//! Each key has exactly one algorithm, fixed when it is read; a token can only agree with it.
//!
//! What is in a key set but is not for us is left out and logged: a key for encryption (`use` other than `sig`, or
//! `key_ops` without `verify`), or of an algorithm other than `EdDSA`, ES256, RS256 and HS256. Identity providers publish
//! such keys beside ours. What is for us and wrong is refused, and the whole set with it: half of a set would be an outage
//! that nobody sees at once.

use std::collections::HashSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// The shortest HS256 secret, in bytes: the length of the hash, as RFC 7518 section 3.2 requires.
pub const MIN_SECRET_LEN: usize = 32;

/// Why a key set was refused.
#[derive(Debug, thiserror::Error)]
pub enum JwksFault {
    /// The text is not JSON.
    #[error("the key set is not JSON")]
    NotJson(#[source] serde_json::Error),
    /// The JSON has no list `keys`.
    #[error("the key set has no list `keys`")]
    NotAKeySet,
    /// One key is wrong.
    #[error("the key set's {key}: {fault}")]
    Key {
        /// The key's place and `kid`.
        key: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// No key is left that could verify a token.
    #[error("the key set has no key for verifying EdDSA, ES256, RS256 or HS256 signatures")]
    NoUsableKey,
}

pub(super) struct Key {
    /// Its place and `kid`, for messages.
    name: String,
    pub(super) kid: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) material: DecodingKey,
}

#[derive(Default)]
pub(super) struct KeySet(Vec<Key>);

/// The members of a JSON Web Key that matter here.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    k: Option<String>,
    d: Option<serde::de::IgnoredAny>,
}

enum Reading {
    Ours(Key),
    NotOurs(&'static str),
}

impl KeySet {
    pub(super) fn of_secret(secret: &[u8]) -> Self {
        let material = DecodingKey::from_secret(secret);
        Self(vec![Key { name: "secret".to_owned(), kid: None, algorithm: Algorithm::HS256, material }])
    }

    pub(super) fn parse(jwks: &str) -> Result<Self, JwksFault> {
        let set: Value = serde_json::from_str(jwks).map_err(JwksFault::NotJson)?;
        let entries = set.get("keys").and_then(Value::as_array).ok_or(JwksFault::NotAKeySet)?;
        let mut keys = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let name = name(index, entry);
            match read(&name, entry) {
                Ok(Reading::Ours(key)) => keys.push(key),
                Ok(Reading::NotOurs(reason)) => tracing::info!(key = name, reason, "left a key out of the key set"),
                Err(fault) => return Err(JwksFault::Key { key: name, fault }),
            }
        }
        check_kids(&keys)?;
        Ok(Self(keys))
    }

    /// The key that a token names, or the only one when it names none.
    pub(super) fn find(&self, kid: Option<&str>) -> Result<&Key, &'static str> {
        match (kid, self.0.as_slice()) {
            (Some(kid), keys) => {
                keys.iter().find(|key| key.kid.as_deref() == Some(kid)).ok_or("its kid is none of this server's keys")
            }
            (None, [only]) => Ok(only),
            (None, _) => Err("it has no kid, and this server has several keys"),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Refuses a set with a secret in it: one that others read too is none.
    pub(super) fn refuse_secrets(&self) -> Result<(), JwksFault> {
        let secret = self.0.iter().find(|key| key.algorithm == Algorithm::HS256);
        secret.map_or(Ok(()), |key| {
            let fault = "it is a secret, and the key set is published: whoever reads it could sign";
            Err(JwksFault::Key { key: key.name.clone(), fault })
        })
    }

    pub(super) fn names(&self) -> impl Iterator<Item = (&str, Algorithm)> {
        self.0.iter().map(|key| (key.name.as_str(), key.algorithm))
    }
}

/// A single key needs no `kid`; several need one each, or no token could name them.
fn check_kids(keys: &[Key]) -> Result<(), JwksFault> {
    let wrong = |key: &Key, fault| Err(JwksFault::Key { key: key.name.clone(), fault });
    if keys.is_empty() {
        return Err(JwksFault::NoUsableKey);
    }
    let mut seen = HashSet::new();
    for key in keys {
        if key.kid.is_none() && keys.len() > 1 {
            return wrong(key, "it has no kid, and is not the only key");
        }
        if !seen.insert(&key.kid) {
            return wrong(key, "another key has the same kid");
        }
    }
    Ok(())
}

fn name(index: usize, entry: &Value) -> String {
    match entry.get("kid").and_then(Value::as_str) {
        Some(kid) => format!("key {} (kid {kid:?})", index + 1),
        None => format!("key {} (no kid)", index + 1),
    }
}

fn read(name: &str, entry: &Value) -> Result<Reading, &'static str> {
    // The detail of the parser is dropped: it may quote a secret.
    let jwk = Jwk::deserialize(entry).map_err(|_| "it has no kty, or a member of the wrong type")?;
    let verifies = |ops: &Vec<String>| ops.iter().any(|op| op == "verify");
    if jwk.r#use.as_deref().is_some_and(|usage| usage != "sig") || !jwk.key_ops.as_ref().is_none_or(verifies) {
        return Ok(Reading::NotOurs("it is not for verifying signatures"));
    }
    let Some(algorithm) = algorithm(&jwk)? else {
        return Ok(Reading::NotOurs("its algorithm is not supported"));
    };
    if jwk.d.is_some() {
        return Err("it has a private part; give this server the public key only");
    }
    let material = match algorithm {
        Algorithm::EdDSA => ed25519(&jwk)?,
        Algorithm::ES256 => p256(&jwk)?,
        Algorithm::RS256 => rsa(&jwk)?,
        _ => secret(&jwk)?,
    };
    Ok(Reading::Ours(Key { name: name.to_owned(), kid: jwk.kid, algorithm, material }))
}

/// The one algorithm of a key: its `alg`, which its type must fit, or else what its type stands for.
fn algorithm(jwk: &Jwk) -> Result<Option<Algorithm>, &'static str> {
    let of_type = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("OKP", Some("Ed25519")) => Some(Algorithm::EdDSA),
        ("EC", Some("P-256")) => Some(Algorithm::ES256),
        ("RSA", _) => Some(Algorithm::RS256),
        ("oct", _) => Some(Algorithm::HS256),
        _ => None,
    };
    let named = match jwk.alg.as_deref() {
        None => return Ok(of_type),
        Some("EdDSA") => Algorithm::EdDSA,
        Some("ES256") => Algorithm::ES256,
        Some("RS256") => Algorithm::RS256,
        Some("HS256") => Algorithm::HS256,
        Some(_) => return Ok(None),
    };
    match of_type {
        Some(algorithm) if algorithm == named => Ok(Some(named)),
        // EdDSA is also the name for Ed448.
        None if named == Algorithm::EdDSA && jwk.crv.as_deref() == Some("Ed448") => Ok(None),
        _ => Err("its alg does not fit its kty and crv"),
    }
}

fn ed25519(jwk: &Jwk) -> Result<DecodingKey, &'static str> {
    let x = decode(jwk.x.as_ref()).filter(|x| x.len() == 32).ok_or("its x is not 32 bytes in base64url")?;
    Ok(DecodingKey::from_ed_der(&x))
}

fn p256(jwk: &Jwk) -> Result<DecodingKey, &'static str> {
    let x = decode(jwk.x.as_ref()).filter(|x| x.len() == 32).ok_or("its x is not 32 bytes in base64url")?;
    let y = decode(jwk.y.as_ref()).filter(|y| y.len() == 32).ok_or("its y is not 32 bytes in base64url")?;
    // The uncompressed form of SEC 1 section 2.3.3.
    Ok(DecodingKey::from_ec_der(&[&[0x04], x.as_slice(), y.as_slice()].concat()))
}

fn rsa(jwk: &Jwk) -> Result<DecodingKey, &'static str> {
    let n = decode_number(jwk.n.as_ref()).ok_or("its n is not a number in base64url")?;
    let e = decode_number(jwk.e.as_ref()).ok_or("its e is not a number in base64url")?;
    // Half a byte short is short: the top bit of the 256th byte must be set.
    if n.len() < 256 || (n.len() == 256 && n.first().is_some_and(|top| *top < 0x80)) {
        return Err("its modulus is shorter than 2048 bits");
    }
    if n.len() > 1024 {
        return Err("its modulus is longer than 8192 bits");
    }
    if e.len() > 4 || e == [1] || e.last().is_none_or(|last| last % 2 == 0) {
        return Err("its exponent is not an odd number from 3 to 2^32");
    }
    Ok(DecodingKey::from_rsa_raw_components(&n, &e))
}

fn secret(jwk: &Jwk) -> Result<DecodingKey, &'static str> {
    let secret = decode(jwk.k.as_ref()).ok_or("its k is not base64url")?;
    if secret.len() < MIN_SECRET_LEN {
        return Err("its secret is shorter than 32 bytes");
    }
    Ok(DecodingKey::from_secret(&secret))
}

fn decode(text: Option<&String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok()
}

/// A big-endian number without the leading zeros that some providers write and ring refuses.
fn decode_number(text: Option<&String>) -> Option<Vec<u8>> {
    let bytes = decode(text)?;
    let start = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes.get(start..)?.to_vec())
}
