//! Plans, subscriptions and seats.

pub mod catalogue;
pub mod rpc;
pub mod seats;
pub mod store;

pub use rpc::Service;
