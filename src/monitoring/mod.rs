//! Sessions in rooms, recordings, and how much of what is paid for is used.

pub mod rpc;

/// The service of this feature.
pub use rpc::Service;
