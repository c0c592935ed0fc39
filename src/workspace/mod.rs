//! Workspaces and rooms, and who is assigned to them.

pub mod assignments;
pub mod rpc;
pub mod rules;
pub mod store;

/// The service of this feature.
pub use rpc::Service;
