//! Sessions in rooms, recordings, and how much of what is paid for is used.

pub mod rpc;
pub mod rules;
pub mod store;

/// The service of this feature.
pub use rpc::Service;
