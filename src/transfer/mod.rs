//! `tenantry import` and `tenantry export`: organizations with all their people, as a file of JSON lines.
//!
//! One object a line, UTF-8; empty lines are skipped. Its `kind` says what it is, its other keys are named and ruled as the
//! fields of the contract are. Times are RFC 3339. A key that is not said, or is null, has its default; one that is not known
//! is a fault. [`format::MANUAL`] lists the keys, for `--help` too.
//!
//! An import validates the whole file first ([`check`], [`conflicts`]) and then writes it in file order, in transactions of some
//! thousand lines ([`batch`], [`mod@write`]). Each of them moves on the row of `data_import` that has the digest of the file, so that
//! an import which was interrupted goes on where it was. The file is read anew for each pass: what is kept in memory of a line is
//! what tells it from others. An export ([`export`]) is one snapshot, read page by page.

pub mod batch;
pub mod check;
pub mod conflicts;
pub mod export;
pub mod faults;
pub mod format;
pub mod import;
mod keys;
mod object;
mod pages;
pub mod progress;
mod rows;
pub mod source;
pub mod write;

use std::path::PathBuf;

use sea_orm::DbErr;
use uuid::Uuid;

use crate::error::Error;

/// Why a file was not imported, or a database not exported.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file has faults.
    #[error("{0} faults; nothing was written this time")]
    Faulty(u64),
    /// The file was changed while it was read.
    #[error("the file was changed while it was being imported; what was written of it stays")]
    Changed,
    /// Another process imports the same file.
    #[error("another process imports this file at the same time; it goes on, this one stops")]
    Rival,
    /// Somebody took the seats while the import was under way.
    #[error(
        "organization {0} has no seats left for what is still to be written: somebody took them meanwhile; free some, or give \
         it more, and run the import again: it goes on from there"
    )]
    SeatsTaken(Uuid),
    /// Somebody deleted the organization while the import was under way.
    #[error("organization {0} is not there any more: it was purged before the import was done")]
    Gone(Uuid),
    /// There is no such organization to export.
    #[error("there is no organization {0}, or it is deleted")]
    Missing(Uuid),
    /// A batch could not be written.
    #[error(
        "lines {from} to {to} could not be written; those before are, and running the import again goes on from there"
    )]
    Lines {
        /// The first line of the batch.
        from: u32,
        /// Its last line.
        to: u32,
        /// Why.
        source: Box<TransferError>,
    },
    /// The database failed.
    #[error("the database failed")]
    Database(#[from] DbErr),
    /// The database holds what cannot be read, or cannot take what is to be written.
    #[error("the database has or would get what cannot be")]
    Store(#[from] Error),
}
