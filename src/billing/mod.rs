//! Plans, subscriptions and seats.

pub mod catalogue;
pub mod countries;
pub mod document;
pub mod money;
pub mod profile;
pub mod provider;
pub mod rpc;
pub mod seats;
pub mod store;

pub use rpc::Service;
