//! Tenantry: organizations, members, invitations, seats and subscriptions behind one gRPC service.
//!
//! # The tree
//!
//! - [`server`] puts the layers and services together; [`config`] reads the settings; [`telemetry`] writes the logs;
//!   [`receive`] tells what the transport refuses as everything else is told.
//! - [`auth`] decides who may call what: the gate in front of every RPC and the proof that it leaves with a call.
//! - [`operation`] runs every operation in the same steps: scope, load, admit, decide, save, answer.
//! - [`organization`], [`membership`], [`workspace`], [`monitoring`], [`billing`] are the features: `rpc` speaks the wire, `rules`
//!   decide and are pure, `store` and its like have the SQL. [`event`] is the log that every change is written to.
//! - [`delivery`] is what leaves after the commit, read from that log: e-mail and webhooks.
//! - [`transfer`] imports and exports whole organizations; [`dns`] asks for the records that prove a domain.
//! - [`entity`] mirrors the tables; [`database`] and [`migration`] are about the database itself.
//! - [`error`] has everything that a call can be refused for, and the one mapping to the wire.
//!
//! # The life of a call
//!
//! `telemetry` gives it an id and a span → `auth::layer` looks up what its path requires, reads who calls, asks the role
//! policy → the feature's service hands it to `operation`, which enters the organization, loads the *stored* membership and
//! decides on that → the command or query decides by its rules and writes through its stores → `operation` writes counters
//! and events, keeps the answer for a repeated request, and commits.

pub mod app;
pub mod auth;
pub mod backup;
pub mod banner;
pub mod billing;
pub mod chance;
pub mod check;
pub mod clock;
pub mod config;
pub mod database;
pub mod deadline;
pub mod delivery;
pub mod deployment;
pub mod dns;
pub mod email;
pub mod entity;
pub mod error;
pub mod etag;
pub mod event;
pub mod fields;
mod forward;
pub mod http_client;
pub mod id;
pub mod idempotency;
pub mod lanes;
pub mod membership;
pub mod metrics;
pub mod migration;
pub mod monitoring;
pub mod operation;
pub mod organization;
pub mod overload;
pub mod page;
pub mod pb;
pub mod plain_http;
pub mod receive;
pub mod scarce;
pub mod seldom;
pub mod server;
pub mod sql;
pub mod telemetry;
pub mod testing;
pub mod text;
pub mod trace;
pub mod transfer;
pub mod transport;
pub mod worker;
pub mod workspace;
