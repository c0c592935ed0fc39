//! Which keys are taken, and how a wrong one is named.

use super::{signing::encode, *};

fn fault(keys: &[Value]) -> String {
    match KeySet::parse(&json!({ "keys": keys }).to_string()) {
        Err(fault) => fault.to_string(),
        Ok(_) => panic!("expected a fault"),
    }
}

fn with(mut jwk: Value, member: &str, value: Value) -> Value {
    jwk[member] = value;
    jwk
}

#[test]
fn a_key_set_comes_from_a_file() {
    let key = TestKey::rsa();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!({ "keys": [key.jwk("k")] }).to_string()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let settings = TokenSettings { jwks: Some(Source::File(path.clone().into())), ..TokenSettings::default() };
    assert!(TokenVerifier::new(&settings).unwrap().verify(&key.sign_plain(&ann()), now()).is_ok());

    std::fs::write(&path, "{").unwrap();
    assert!(matches!(
        TokenVerifier::new(&settings),
        Err(TokenSettingsError::KeySet { source: JwksFault::NotJson(_), .. })
    ));
    file.close().unwrap();
    assert!(matches!(TokenVerifier::new(&settings), Err(TokenSettingsError::Unreadable { .. })));
}

#[test]
fn exactly_one_source_of_keys() {
    let settings = |secret: Option<&[u8]>, jwks: Option<&str>| TokenSettings {
        secret: secret.map(<[u8]>::to_vec),
        jwks: jwks.map(|path| Source::File(path.into())),
        ..TokenSettings::default()
    };
    let new = |secret, jwks| TokenVerifier::new(&settings(secret, jwks)).map(|_| ());
    assert!(matches!(new(None, None), Err(TokenSettingsError::NoKeys)));
    assert!(matches!(new(Some(SECRET), Some("/a")), Err(TokenSettingsError::SecretAndKeySet)));
    assert!(matches!(new(Some(&[1; 31]), None), Err(TokenSettingsError::SecretTooShort)));
    assert!(new(Some(&[1; 32]), None).is_ok());
}

#[test]
fn a_wrong_key_is_named_by_place_and_kid() {
    let good = TestKey::ed25519().jwk("good");
    let (ed, ec, rsa) = (TestKey::ed25519().jwk("bad"), TestKey::p256().jwk("bad"), TestKey::rsa().jwk("bad"));
    let oct = TestKey::secret().jwk("bad");
    let short_n = encode([0x7f; 256]);
    for (jwk, what) in [
        (with(ed.clone(), "x", json!("AA")), "its x is not 32 bytes"),
        (with(ed.clone(), "x", json!(null)), "its x is not 32 bytes"),
        (with(ed.clone(), "x", json!("not base64!")), "its x is not 32 bytes"),
        (with(ed.clone(), "alg", json!("ES256")), "its alg does not fit"),
        (with(ed.clone(), "d", json!("AA")), "it has a private part"),
        (with(ed.clone(), "kid", json!("good")), "another key has the same kid"),
        (with(ed.clone(), "kid", json!(null)), "it has no kid, and is not the only key"),
        (with(ec, "y", json!("AA")), "its y is not 32 bytes"),
        (with(rsa.clone(), "n", json!(short_n)), "shorter than 2048 bits"),
        (with(rsa.clone(), "n", json!(encode([0xff; 1025]))), "longer than 8192 bits"),
        (with(rsa.clone(), "n", json!("")), "its n is not a number"),
        (with(rsa.clone(), "e", json!("AQ")), "its exponent"),
        (with(rsa.clone(), "e", json!("AAI")), "its exponent"),
        (with(rsa, "alg", json!("HS256")), "its alg does not fit"),
        (with(oct.clone(), "k", json!(encode([1; 31]))), "its secret is shorter"),
        (with(oct, "alg", json!("RS256")), "its alg does not fit"),
        (with(ed.clone(), "kty", json!(7)), "it has no kty"),
        (with(ed, "kid", json!(7)), "key 2 (no kid)"),
        (json!("text"), "it has no kty"),
    ] {
        let message = fault(&[good.clone(), jwk]);
        assert!(message.contains("key 2 (") && message.contains(what), "{message:?} does not say {what:?}");
    }
    assert_eq!(
        fault(&[with(TestKey::ed25519().jwk("2026-a"), "x", json!("AA"))]),
        r#"the key set's key 1 (kid "2026-a"): its x is not 32 bytes in base64url"#
    );
}

#[test]
fn keys_for_something_else_are_left_out() {
    let good = TestKey::ed25519();
    let other = TestKey::rsa().jwk("other");
    let left_out = [
        with(other.clone(), "use", json!("enc")),
        with(other.clone(), "key_ops", json!(["encrypt"])),
        with(other.clone(), "alg", json!("RS512")),
        with(other, "alg", json!("RSA-OAEP")),
        json!({ "kid": "other", "kty": "EC", "crv": "P-384", "x": "", "y": "" }),
        json!({ "kid": "other", "kty": "OKP", "crv": "X25519", "x": "" }),
        json!({ "kid": "other", "kty": "OKP", "crv": "Ed448", "alg": "EdDSA", "x": "" }),
        json!({ "kid": "other", "kty": "AKP" }),
    ];
    for jwk in left_out {
        let verifier = verifier_of(&[jwk.clone(), good.jwk("good")]);
        assert!(verifier.verify(&good.sign_plain(&ann()), now()).is_ok(), "{jwk}");
        let token = TestKey::rsa().sign(&json!({ "alg": "RS256", "kid": "other" }), &ann());
        refused(&verifier, &token, "its kid is none of");
        assert!(fault(&[jwk]).contains("no key for verifying"));
    }
    assert!(fault(&[]).contains("no key for verifying"));
}

#[test]
fn keys_that_say_what_they_are_for_are_taken() {
    for key in TestKey::all() {
        let mut jwk = with(key.jwk("k"), "use", json!("sig"));
        jwk["alg"] = json!(key.alg());
        jwk["key_ops"] = json!(["verify"]);
        assert!(verifier_of(&[jwk]).verify(&key.sign_plain(&ann()), now()).is_ok(), "{}", key.alg());
    }
}

#[test]
fn a_modulus_may_have_the_leading_zero_that_some_providers_write() {
    let key = TestKey::rsa();
    let mut jwk = key.jwk("k");
    let n = base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, jwk["n"].as_str().unwrap());
    jwk["n"] = json!(encode([vec![0], n.unwrap()].concat()));
    assert!(verifier_of(&[jwk]).verify(&key.sign_plain(&ann()), now()).is_ok());
}

#[test]
fn a_single_key_needs_no_kid() {
    let key = TestKey::p256();
    let verifier = verifier_of(&[with(key.jwk("k"), "kid", json!(null))]);
    assert!(verifier.verify(&key.sign_plain(&ann()), now()).is_ok());
    refused(&verifier, &key.sign(&json!({ "alg": "ES256", "kid": "k" }), &ann()), "its kid is none of");
}

#[test]
fn what_is_no_key_set_is_refused() {
    for (text, what) in [("", "is not JSON"), ("[]", "no list `keys`"), (r#"{"keys":{}}"#, "no list `keys`")] {
        let fault = KeySet::parse(text).err().unwrap();
        assert!(fault.to_string().contains(what), "{fault}");
    }
}

#[test]
fn replaced_keys_are_gone_and_a_wrong_set_replaces_nothing() {
    let (old, new) = (TestKey::ed25519(), TestKey::ed25519());
    let verifier = verifier_of(&[old.jwk("old")]);
    assert!(verifier.take(r#"{"keys":[]}"#, true).is_err());
    assert!(verifier.verify(&old.sign_plain(&ann()), now()).is_ok());
    verifier.take(&json!({ "keys": [new.jwk("new")] }).to_string(), false).unwrap();
    assert!(verifier.verify(&new.sign_plain(&ann()), now()).is_ok());
    refused(&verifier, &old.sign_plain(&ann()), "its signature does not fit");
}
