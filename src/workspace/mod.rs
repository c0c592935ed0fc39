//! Workspaces and rooms, and who is assigned to them.

pub mod rpc;

/// The service of this feature.
pub use rpc::Service;
