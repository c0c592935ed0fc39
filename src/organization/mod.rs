//! Organizations: made, found, changed, deleted and undeleted.

pub mod analytics;
pub mod days;
pub mod domains;
pub mod overview;
pub mod rpc;
pub mod rules;
pub mod settings;
pub mod setup;
pub mod store;

/// The service of this feature.
pub use rpc::Service;
