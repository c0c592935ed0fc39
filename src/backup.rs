//! Backup and restore of an SQLite database. PostgreSQL has its own ways, which the README names.
//!
//! A backup is taken beside the running server: SQLite writes the database as it is at one instant into another file while changes go
//! on. It is checked before it bears its name, so that a file of that name is a whole one.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sea_orm::{ConnectOptions, ConnectionTrait as _, DatabaseConnection, DbBackend, DbErr, Statement};

use crate::database::{DatabaseError, SqliteFile};
use crate::migration::{self, MigrationError};

/// Why there is no backup, or it was not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database is PostgreSQL.
    #[error("only an SQLite database is backed up by this command; PostgreSQL by pg_basebackup or pg_dump")]
    Postgres,
    /// The file of the database cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// There is no such file.
    #[error("there is no file {0}")]
    NoFile(PathBuf),
    /// There is such a file already.
    #[error("{0} is there already; name another file, or move it away")]
    Exists(PathBuf),
    /// There is a database already.
    #[error("{0} is there already; with --replace it is kept beside it, under another name")]
    DatabaseExists(PathBuf),
    /// The file is no sound database of this service.
    #[error("{path} is not a sound backup: {fault}")]
    Unsound {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: String,
    },
    /// It was made by a newer version.
    #[error("{path} cannot be served by this version")]
    Version {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: MigrationError,
    },
    /// SQLite refuses.
    #[error("SQLite: {0}")]
    Sqlite(#[from] DbErr),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
}

/// Writes the database at `url` as it is now into a new file. A server may serve it meanwhile. Gives the size in bytes.
///
/// # Errors
///
/// When there is such a file, or the database cannot be read; then there is no file of that name.
pub async fn backup(url: &str, into: &Path) -> Result<u64, BackupError> {
    let source = sqlite(url)?;
    if !source.path.exists() {
        return Err(BackupError::NoFile(source.path));
    }
    if into.exists() {
        return Err(BackupError::Exists(into.to_owned()));
    }
    let partial = beside(into, "partial");
    remove(&partial)?;
    let written = async {
        let database = open(&source.path).await?;
        let path = partial.to_string_lossy().into_owned();
        let vacuum = Statement::from_sql_and_values(DbBackend::Sqlite, "VACUUM INTO ?", [path.into()]);
        let written = database.execute_raw(vacuum).await;
        database.close().await?;
        written?;
        check(&partial).await?;
        keep(&partial)
    };
    let written = written.await.and_then(|size| rename(&partial, into).map(|()| size));
    if written.is_err() {
        remove(&partial)?;
    }
    written
}

/// Puts a backup in the place of the database at `url`, which no server may serve. What is there is kept under another name, which is
/// given back, if `replace` says so.
///
/// # Errors
///
/// When the backup is not sound, a server runs, or there is a database and `replace` is not said; then nothing is changed.
pub async fn restore(url: &str, from: &Path, replace: bool) -> Result<Option<PathBuf>, BackupError> {
    let target = sqlite(url)?;
    if !from.is_file() {
        return Err(BackupError::NoFile(from.to_owned()));
    }
    let _lock = target.lock()?;
    if target.path.exists() && !replace {
        return Err(BackupError::DatabaseExists(target.path));
    }
    // The copy is checked, not the backup: SQLite writes beside what it opens.
    let partial = beside(&target.path, "partial");
    remove(&partial)?;
    std::fs::copy(from, &partial).map_err(failed(from))?;
    let checked = async {
        check(&partial).await.map_err(|error| named(error, from))?;
        keep(&partial)
    };
    if let Err(error) = checked.await {
        remove(&partial)?;
        return Err(error);
    }
    let kept = set_aside(&target.path)?;
    rename(&partial, &target.path)?;
    Ok(kept)
}

fn sqlite(url: &str) -> Result<SqliteFile, BackupError> {
    if url.starts_with("postgres") { Err(BackupError::Postgres) } else { Ok(SqliteFile::of(url)?) }
}

/// Moves a database away, with what SQLite has written beside it and not yet into it: SQLite would write that into whatever bears the
/// name, so it goes first, and also where the database itself is gone.
fn set_aside(database: &Path) -> Result<Option<PathBuf>, BackupError> {
    let names = (1..=u16::MAX).map(|number| beside(database, &format!("replaced-{number}")));
    let aside = names.into_iter().find(|path| !path.exists()).ok_or(BackupError::Exists(database.to_owned()))?;
    let mut is_any = false;
    for suffix in ["-wal", "-shm", "-journal", ""] {
        let (from, to) = (with_suffix(database, suffix), with_suffix(&aside, suffix));
        if from.exists() {
            rename(&from, &to)?;
            is_any = true;
        }
    }
    Ok(is_any.then_some(aside))
}

/// Looks at every page and every reference of a database, and whether this version can serve it.
async fn check(path: &Path) -> Result<(), BackupError> {
    let unsound = |fault: String| BackupError::Unsound { path: path.to_owned(), fault };
    let database = open(path).await.map_err(|error| unsound(error.to_string()))?;
    let checked = async {
        for (pragma, sound) in [("PRAGMA integrity_check", Some("ok")), ("PRAGMA foreign_key_check", None)] {
            let statement = Statement::from_string(DbBackend::Sqlite, pragma);
            let rows = database.query_all_raw(statement).await.map_err(|error| unsound(error.to_string()))?;
            let said = rows.first().map(|row| row.try_get_by_index::<String>(0)).transpose()?;
            if said.as_deref() != sound {
                return Err(unsound(said.unwrap_or_default()));
            }
        }
        if !migration::is_ours(&database).await.map_err(|error| unsound(error.to_string()))? {
            return Err(unsound("it is no database of this service".into()));
        }
        let version = |source| BackupError::Version { path: path.to_owned(), source };
        migration::check_floor(&database).await.map_err(version)
    };
    let checked = checked.await;
    database.close().await?;
    for suffix in ["-wal", "-shm"] {
        remove(&with_suffix(path, suffix))?;
    }
    checked
}

/// The error about a copy, told of what it is a copy of.
fn named(error: BackupError, of: &Path) -> BackupError {
    match error {
        BackupError::Unsound { fault, .. } => BackupError::Unsound { path: of.to_owned(), fault },
        BackupError::Version { source, .. } => BackupError::Version { path: of.to_owned(), source },
        other => other,
    }
}

async fn open(path: &Path) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new("sqlite:");
    let path = path.to_owned();
    options.max_connections(1).sqlx_logging(false).map_sqlx_sqlite_opts(move |options| {
        options.filename(&path).create_if_missing(false).busy_timeout(Duration::from_secs(5))
    });
    sea_orm::Database::connect(options).await
}

/// Sees to it that a file outlasts a power cut, and gives its size.
fn keep(path: &Path) -> Result<u64, BackupError> {
    let size = || {
        let file = File::open(path)?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    };
    size().map_err(failed(path))
}

fn rename(from: &Path, to: &Path) -> Result<(), BackupError> {
    std::fs::rename(from, to).map_err(failed(to))?;
    // The name is kept by the folder that it stands in.
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder))
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(path)(error)),
        _ => Ok(()),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<'_> {
    move |source| BackupError::File { path: path.to_owned(), source }
}

fn beside(path: &Path, what: &str) -> PathBuf {
    with_suffix(path, &format!(".{what}"))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
