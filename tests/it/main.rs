//! Every test that runs against a database or a server: one binary, so that one PostgreSQL cluster serves them all.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what the tests cannot set up, or do not find as it must be, ends them"
)]
#![expect(clippy::result_large_err, reason = "a test reads a refusal whole")]

mod analytics;
mod audit_log;
mod authorization;
mod backup;
mod bad_input;
mod billing;
mod billing_profile;
mod binary;
mod concurrency;
mod contract;
mod custom_roles;
mod domains;
mod events;
mod events_of_billing;
mod events_of_products;
mod failover;
mod failures;
mod given_back;
mod harness;
mod hostile;
mod idempotency;
mod identity;
mod invariants;
mod invitation;
mod invoices;
mod joining;
mod listing;
mod mail;
mod membership;
mod monitoring;
mod operations;
mod organization;
mod overload;
mod overview;
mod payments;
mod readme;
mod rollout;
mod search;
mod seat_ledger;
mod settings;
mod simulation;
mod standing;
mod stories;
mod story_money;
mod story_s0_admin_center;
mod story_s1_user_management;
mod story_s2_split_admin;
mod story_s3_meetings;
mod stripe;
mod stripe_payments;
mod subscriptions;
mod telemetry;
mod transfer;
mod transport;
mod unpaid_credit;
mod usage;
mod watching;
mod webhooks;
mod workspace;
