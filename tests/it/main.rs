//! Every test that runs against a database or a server: one binary, so that one PostgreSQL cluster serves them all.

#![expect(clippy::expect_used, clippy::panic, reason = "what the tests cannot set up ends them")]

mod harness;
mod membership;
