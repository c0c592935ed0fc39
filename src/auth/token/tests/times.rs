//! When a token counts.

use super::*;

fn verify(claim: &str, value: Value) -> Result<(), TokenFault> {
    let mut claims = ann();
    claims[claim] = value;
    of_secret().verify(&TestKey::secret().sign_plain(&claims), now()).map(|_| ())
}

#[test]
fn a_token_ends_thirty_seconds_after_its_exp() {
    assert_eq!(verify("exp", json!(in_seconds(0))), Ok(()));
    assert_eq!(verify("exp", json!(in_seconds(-29))), Ok(()));
    assert_eq!(verify("exp", json!(in_seconds(-30))), Err(TokenFault::Expired));
    assert_eq!(verify("exp", json!(-1)), Err(TokenFault::Expired));
    assert_eq!(verify("exp", json!(i64::MIN)), Err(TokenFault::Expired));
    assert_eq!(verify("exp", json!(-1e300)), Err(TokenFault::Expired));
    assert_eq!(verify("exp", json!(i64::MAX)), Ok(()));
    assert_eq!(verify("exp", json!(u64::MAX)), Ok(()));
}

#[test]
fn a_fraction_of_a_second_ends_a_token_early() {
    assert_eq!(verify("exp", json!(1_799_999_970.9)), Err(TokenFault::Expired));
    assert_eq!(verify("exp", json!(1_799_999_971.1)), Ok(()));
}

#[test]
fn a_token_starts_thirty_seconds_before_its_nbf_and_iat() {
    for claim in ["nbf", "iat"] {
        assert_eq!(verify(claim, json!(in_seconds(-900))), Ok(()));
        assert_eq!(verify(claim, json!(in_seconds(30))), Ok(()));
        assert_eq!(verify(claim, json!(in_seconds(31))), Err(TokenFault::NotYetValid), "{claim}");
        assert_eq!(verify(claim, json!(1e300)), Err(TokenFault::NotYetValid), "{claim}");
    }
}

#[test]
fn a_time_that_is_no_number_is_refused() {
    for claim in ["exp", "nbf", "iat"] {
        for value in [json!("1900000000"), json!(null), json!(true), json!([1_900_000_000]), json!({})] {
            let expected = TokenFault::Invalid(format!("its {claim} is not a number"));
            assert_eq!(verify(claim, value.clone()), Err(expected), "{claim}: {value}");
        }
    }
}

#[test]
fn a_token_without_an_end_is_refused() {
    refused(&of_secret(), &TestKey::secret().sign_plain(&json!({ "sub": "ann" })), "it has no claim exp");
}
