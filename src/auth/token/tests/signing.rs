//! Keys that sign whatever a test writes.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use ring::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde_json::{Value, json};

pub(in crate::auth) const SECRET: &[u8] = b"this-is-a-test-secret-of-37-bytes-abc";

// ring cannot generate RSA keys. This one signs nothing but these tests.
const RSA_PEM: &str = include_str!("rsa_test_only.pem");

pub(in crate::auth) enum TestKey {
    Ed25519(Ed25519KeyPair),
    P256(EcdsaKeyPair),
    Rsa(RsaKeyPair),
    Secret(Vec<u8>),
}

impl TestKey {
    pub(in crate::auth) fn all() -> [Self; 4] {
        [Self::ed25519(), Self::p256(), Self::rsa(), Self::secret()]
    }

    pub(in crate::auth) fn ed25519() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    pub(in crate::auth) fn p256() -> Self {
        let random = SystemRandom::new();
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self::P256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).unwrap())
    }

    pub(in crate::auth) fn rsa() -> Self {
        let body: String = RSA_PEM.lines().filter(|line| !line.starts_with('-')).collect();
        Self::Rsa(RsaKeyPair::from_pkcs8(&STANDARD.decode(body).unwrap()).unwrap())
    }

    pub(in crate::auth) fn secret() -> Self {
        Self::Secret(SECRET.to_vec())
    }

    pub(in crate::auth) fn alg(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "EdDSA",
            Self::P256(_) => "ES256",
            Self::Rsa(_) => "RS256",
            Self::Secret(_) => "HS256",
        }
    }

    /// What anybody can know of the key, and so what a forger would use as an HMAC secret.
    pub(in crate::auth) fn public_bytes(&self) -> Vec<u8> {
        match self {
            Self::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
            Self::P256(pair) => pair.public_key().as_ref().to_vec(),
            Self::Rsa(pair) => pair.public_key().as_ref().to_vec(),
            Self::Secret(_) => Vec::new(),
        }
    }

    pub(in crate::auth) fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Ed25519(pair) => {
                json!({ "kid": kid, "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref()) })
            }
            Self::P256(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kid": kid, "kty": "EC", "crv": "P-256", "x": encode(x), "y": encode(y) })
            }
            Self::Rsa(pair) => {
                let public = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public_key());
                json!({ "kid": kid, "kty": "RSA", "n": encode(public.n), "e": encode(public.e) })
            }
            Self::Secret(secret) => json!({ "kid": kid, "kty": "oct", "k": encode(secret) }),
        }
    }

    /// Signs claims under the key's own algorithm, without a `kid`.
    pub(in crate::auth) fn sign_plain(&self, claims: &Value) -> String {
        self.sign(&json!({ "alg": self.alg(), "typ": "JWT" }), claims)
    }

    pub(in crate::auth) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// Signs two texts, of which neither needs to be JSON.
    pub(in crate::auth) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", encode(header), encode(claims));
        let bytes = message.as_bytes();
        let random = SystemRandom::new();
        let signature = match self {
            Self::Ed25519(pair) => pair.sign(bytes).as_ref().to_vec(),
            Self::P256(pair) => pair.sign(&random, bytes).unwrap().as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature).unwrap();
                signature
            }
            Self::Secret(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), bytes).as_ref().to_vec(),
        };
        format!("{message}.{}", encode(signature))
    }
}

pub(in crate::auth) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
