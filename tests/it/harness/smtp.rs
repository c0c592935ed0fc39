//! aiosmtpd: an SMTP server, from PyPI (<https://github.com/aio-libs/aiosmtpd>).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use super::certificates::Authority;
use super::mail::Letter;
use super::python::PythonServer;

/// Longer than what it says takes to be read.
const PATIENCE: Duration = Duration::from_secs(20);

/// How it is to be spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Plainly,
    StartTls,
    Tls,
}

/// A letter that it has taken.
#[derive(Clone, Debug)]
pub(crate) struct Taken {
    pub(crate) letter: Letter,
    pub(crate) to: Vec<String>,
    pub(crate) by_tls: bool,
    pub(crate) user: Option<String>,
}

/// An SMTP server, which ends when this value is dropped or the process ends.
pub(crate) struct SmtpServer {
    pub(crate) port: u16,
    /// The certificate of the authority that vouches for it.
    pub(crate) authority: PathBuf,
    taken: Arc<Mutex<Vec<Taken>>>,
    _directory: TempDir,
    _server: PythonServer,
}

impl SmtpServer {
    pub(crate) fn start(speaks: Speaks, password: Option<&str>) -> Self {
        Self::start_at(0, speaks, password)
    }

    /// At a port, or at any when it is none.
    pub(crate) fn start_at(port: u16, speaks: Speaks, password: Option<&str>) -> Self {
        let directory = TempDir::new().expect("a directory");
        let authority = directory.path().join("authority.pem");
        let mut settings = vec![("SMTP_PORT", port.to_string())];
        if speaks != Speaks::Plainly {
            let certificate = directory.path().join("server.pem");
            vouch(&authority, &certificate);
            settings.push(("SMTP_CERTIFICATE", certificate.display().to_string()));
        }
        if speaks == Speaks::Tls {
            settings.push(("SMTP_WRAPPED", "yes".into()));
        }
        settings.extend(password.map(|password| ("SMTP_PASSWORD", password.into())));
        let mut server = PythonServer::start(include_str!("smtp.py"), "aiosmtpd", "aiosmtpd/smtp.py", &settings);
        let taken = Arc::new(Mutex::new(Vec::new()));
        let (log, lines) = (Arc::clone(&taken), server.lines.take().expect("nobody reads it yet"));
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                log.lock().expect("whole").push(read(&line));
            }
        });
        Self { port: server.port, authority, taken, _directory: directory, _server: server }
    }

    /// What it has taken until now, once that is so many letters.
    pub(crate) fn taken(&self, count: usize) -> Vec<Taken> {
        let begun = Instant::now();
        loop {
            let taken = self.taken.lock().expect("whole").clone();
            if taken.len() >= count {
                return taken;
            }
            assert!(begun.elapsed() < PATIENCE, "{} letters of {count}: {taken:?}", taken.len());
            std::thread::yield_now();
        }
    }
}

fn read(line: &str) -> Taken {
    let told: serde_json::Value = serde_json::from_str(line).expect("a letter");
    let content = STANDARD.decode(told["content"].as_str().expect("text")).expect("base64");
    Taken {
        letter: Letter::read(&content),
        to: told["to"].as_array().expect("a list").iter().filter_map(|to| to.as_str().map(str::to_owned)).collect(),
        by_tls: told["tls"].as_bool().expect("yes or no"),
        user: told["user"].as_str().map(str::to_owned),
    }
}

/// Writes an authority's certificate, and that of a server at `localhost` with its key.
pub(crate) fn vouch(authority: &Path, server: &Path) {
    let issuer = Authority::new();
    let (certificate, key) = issuer.signs(&["localhost"]);
    std::fs::write(authority, issuer.pem()).expect("a file");
    std::fs::write(server, key + &certificate).expect("a file");
}
