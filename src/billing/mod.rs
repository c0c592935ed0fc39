//! Plans, subscriptions, seats, invoices, payments, usage and entitlements.
//!
//! What is decided is pure: periods (`calendar`), what a change costs (`proration`), what a change means (`change`), what
//! invoices come to (`invoicing`). The [`account`] of an organization puts them together in memory and is written as a whole.

pub mod account;
pub mod calendar;
pub mod catalogue;
pub mod change;
pub mod collection;
pub mod countries;
pub mod document;
pub mod invariants;
pub mod invoicing;
pub mod ledger;
pub mod metering;
pub mod money;
pub mod printing;
pub mod profile;
pub mod proration;
pub mod provider;
pub mod rpc;
pub mod seats;
pub mod shown;
pub mod store;
pub mod subscription;
pub mod worker;

pub use rpc::Service;
