//! What somebody without a key might try.

use super::{signing::encode, *};

#[test]
fn a_signature_of_another_key_or_over_another_text_does_not_fit() {
    let pairs = [
        (TestKey::ed25519(), TestKey::ed25519()),
        (TestKey::p256(), TestKey::p256()),
        (TestKey::secret(), TestKey::Secret(vec![7; 32])),
    ];
    for (ours, theirs) in pairs {
        let verifier = verifier_of(&[ours.jwk("k")]);
        refused(&verifier, &theirs.sign_plain(&ann()), "its signature does not fit");
    }
    for key in TestKey::all() {
        let verifier = verifier_of(&[key.jwk("k")]);
        let token = key.sign_plain(&ann());
        let parts: Vec<&str> = token.split('.').collect();
        let other = encode(json!({ "sub": "bob", "exp": in_seconds(600) }).to_string());
        refused(&verifier, &format!("{}.{other}.{}", parts[0], parts[2]), "its signature does not fit");
        refused(&verifier, &format!("{}.{}.", parts[0], parts[1]), "its signature does not fit");
    }
}

#[test]
fn no_algorithm_is_no_signature() {
    for alg in ["none", "None", "NONE", ""] {
        let header = encode(json!({ "alg": alg }).to_string());
        let token = format!("{header}.{}.", encode(ann().to_string()));
        for key in TestKey::all() {
            refused(&verifier_of(&[key.jwk("k")]), &token, "not a signed JWT");
        }
    }
    let token = TestKey::secret().sign(&json!({ "typ": "JWT" }), &ann());
    refused(&of_secret(), &token, "not a signed JWT");
}

#[test]
fn a_public_key_is_no_hmac_secret() {
    for key in [TestKey::ed25519(), TestKey::p256(), TestKey::rsa()] {
        let verifier = verifier_of(&[key.jwk("k")]);
        let forger = TestKey::Secret(key.public_bytes());
        for header in [json!({ "alg": "HS256" }), json!({ "alg": "HS256", "kid": "k" })] {
            refused(&verifier, &forger.sign(&header, &ann()), "its alg is not the algorithm of its key");
        }
        // The header agrees with the key, the signature is the HMAC.
        let header = json!({ "alg": key.alg(), "kid": "k" });
        refused(&verifier, &forger.sign(&header, &ann()), "its signature does not fit");
    }
}

#[test]
fn an_algorithm_other_than_the_keys_is_refused_even_of_the_same_family() {
    for alg in ["HS384", "HS512", "RS256", "ES256", "EdDSA"] {
        let token = TestKey::secret().sign(&json!({ "alg": alg }), &ann());
        refused(&of_secret(), &token, "its alg is not the algorithm of its key");
    }
    for alg in ["PS256", "RS384", "RS512"] {
        let token = TestKey::rsa().sign(&json!({ "alg": alg }), &ann());
        refused(&verifier_of(&[TestKey::rsa().jwk("k")]), &token, "its alg is not the algorithm of its key");
    }
}

#[test]
fn a_key_in_the_header_is_not_believed() {
    let forger = TestKey::ed25519();
    let verifier = verifier_of(&[TestKey::ed25519().jwk("k")]);
    let token = forger.sign(&json!({ "alg": "EdDSA", "kid": "k", "jwk": forger.jwk("k") }), &ann());
    refused(&verifier, &token, "its signature does not fit");
}

#[test]
fn the_key_must_be_named_when_there_are_several() {
    let (one, two) = (TestKey::ed25519(), TestKey::p256());
    let verifier = verifier_of(&[one.jwk("one"), two.jwk("two")]);
    let header = |kid: &str| json!({ "alg": "EdDSA", "kid": kid });
    assert!(verifier.verify(&one.sign(&header("one"), &ann()), now()).is_ok());
    refused(&verifier, &one.sign(&header("three"), &ann()), "its kid is none of");
    refused(&verifier, &one.sign(&header(""), &ann()), "its kid is none of");
    refused(&verifier, &one.sign(&header("two"), &ann()), "its alg is not the algorithm");
    refused(&verifier, &one.sign_plain(&ann()), "it has no kid");
    let alone = verifier_of(&[one.jwk("one")]);
    assert!(alone.verify(&one.sign_plain(&ann()), now()).is_ok());
    refused(&alone, &one.sign(&header("three"), &ann()), "its kid is none of");
}

#[test]
fn a_critical_extension_is_not_understood() {
    for crit in [json!(["exp"]), json!(["b64"]), json!([])] {
        let token = TestKey::secret().sign(&json!({ "alg": "HS256", "crit": crit }), &ann());
        refused(&of_secret(), &token, "its header has crit");
    }
}

#[test]
fn a_token_over_eight_kibibytes_is_not_read() {
    let with_name = |length: usize| {
        let mut claims = ann();
        claims["name"] = json!("x".repeat(length));
        TestKey::secret().sign_plain(&claims)
    };
    assert!(of_secret().verify(&with_name(5900), now()).is_ok());
    refused(&of_secret(), &with_name(6200), "it is longer than 8192 bytes");
}

#[test]
fn what_is_no_jwt_is_refused() {
    let token = TestKey::secret().sign_plain(&ann());
    let padded = format!("{token}=");
    let two = token.rsplit_once('.').unwrap().0;
    for text in ["", ".", "..", "...", "a.b.c", "Bearer x", &padded, two, &format!("{token}.x"), &format!(" {token}")] {
        assert!(matches!(of_secret().verify(text, now()), Err(TokenFault::Invalid(_))), "{text:?}");
    }
}

#[test]
fn a_claim_twice_is_refused() {
    let (sooner, later) = (in_seconds(-600), in_seconds(600));
    for claims in [
        format!(r#"{{"sub":"ann","exp":{later},"exp":{sooner}}}"#),
        format!(r#"{{"sub":"ann","sub":"bob","exp":{later}}}"#),
        format!(r#"{{"sub":"ann","exp":{later},"org_role":"member","org_role":"owner"}}"#),
        "[]".to_owned(),
        "7".to_owned(),
    ] {
        refused(&of_secret(), &TestKey::secret().sign_text(r#"{"alg":"HS256"}"#, &claims), "its claims are not");
    }
}
