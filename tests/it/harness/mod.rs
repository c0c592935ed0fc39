//! What the tests stand on.

pub(crate) mod address;
pub(crate) mod billing;
pub(crate) mod binary;
pub(crate) mod certificates;
pub(crate) mod chance;
pub(crate) mod domains;
pub(crate) mod finance;
pub(crate) mod frames;
pub(crate) mod health;
pub(crate) mod localstripe;
pub(crate) mod lost;
pub(crate) mod mail;
pub(crate) mod members;
pub(crate) mod methods;
pub(crate) mod name_server;
pub(crate) mod person;
pub(crate) mod plain_http;
pub(crate) mod postgres;
pub(crate) mod product;
pub(crate) mod python;
pub(crate) mod race;
pub(crate) mod raw;
pub(crate) mod receiver;
pub(crate) mod refused;
pub(crate) mod replay;
pub(crate) mod siege;
pub(crate) mod smtp;
pub(crate) mod stripe_proxy;
pub(crate) mod tenant;
pub(crate) mod watch;
pub(crate) mod webhooks;
pub(crate) mod workspaces;
pub(crate) mod world;

/// The databases that every rule is tested on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// A SQLite file of the test's own.
    Sqlite,
    /// A database of the test's own on [`postgres::server`].
    Postgres,
}

impl Backend {
    /// An id as its statements write it.
    pub(crate) fn id(self, id: &str) -> String {
        match self {
            Self::Sqlite => format!("x'{}'", id.replace('-', "")),
            Self::Postgres => format!("'{id}'"),
        }
    }
}

/// Makes of each `async fn name(backend: Backend)` the two tests `name::sqlite` and `name::postgres`.
///
/// ```ignore
/// database_tests! {
///     async fn an_admin_cannot_demote_an_owner(backend: Backend) { … }
/// }
/// ```
macro_rules! database_tests {
    ($($(#[$attribute:meta])* async fn $name:ident($backend:ident: $kind:ty) $body:block)+) => {$(
        $(#[$attribute])*
        async fn $name($backend: $kind) $body

        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                super::$name($crate::harness::Backend::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                super::$name($crate::harness::Backend::Postgres).await;
            }
        }
    )+};
}
pub(crate) use database_tests;
