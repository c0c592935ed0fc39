//! What a refusal says, read as a client reads it, and whether it says it well.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::methods::reasons;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) metadata: HashMap<String, String>,
    /// The fields of BadRequest.
    pub(crate) fields: Vec<String>,
    /// Type and subject of each violation of PreconditionFailure.
    pub(crate) violations: Vec<(String, String)>,
    /// Whether RetryInfo came along.
    pub(crate) retry: bool,
}

impl Refused {
    /// Code and reason, which is what most tests are about.
    pub(crate) fn is(&self) -> (Code, &str) {
        (self.code, &self.reason)
    }
}

/// Reads a refusal. One that carries no ErrorInfo of ours, or that tells of the inside, ends the test.
pub(crate) fn refused(status: &Status) -> Refused {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("a refusal without ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "tenantry", "{status:?}");
    let code = reasons().get(&info.reason);
    assert_eq!(code, Some(&status.code()), "the contract says so of {}: {status:?}", info.reason);
    for inside in ["sqlx", "SELECT", "UNIQUE", "constraint", "panicked", "src/"] {
        assert!(!status.message().contains(inside), "the message tells of the inside: {}", status.message());
    }
    let fields = details.bad_request().map(|bad| bad.field_violations.iter().map(|v| v.field.clone()).collect());
    let violations = details
        .precondition_failure()
        .map(|failed| failed.violations.iter().map(|v| (v.r#type.clone(), v.subject.clone())).collect());
    Refused {
        code: status.code(),
        reason: info.reason.clone(),
        message: status.message().to_owned(),
        metadata: info.metadata.clone(),
        fields: fields.unwrap_or_default(),
        violations: violations.unwrap_or_default(),
        retry: details.retry_info().is_some(),
    }
}
