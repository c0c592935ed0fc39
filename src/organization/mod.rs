//! Organizations: made, found, changed, deleted and undeleted.

pub mod days;
pub mod rpc;
pub mod rules;
pub mod store;

/// The service of this feature.
pub use rpc::Service;
