//! aiosmtpd: an SMTP server, from PyPI (<https://github.com/aio-libs/aiosmtpd>).

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, CertifiedIssuer, KeyPair};
use tempfile::TempDir;

use super::mail::Letter;

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
    child: Child,
}

impl SmtpServer {
    pub(crate) fn start(speaks: Speaks, password: Option<&str>) -> Self {
        Self::start_at(0, speaks, password)
    }

    /// At a port, or at any when it is none.
    pub(crate) fn start_at(port: u16, speaks: Speaks, password: Option<&str>) -> Self {
        let directory = TempDir::new().expect("a directory");
        let authority = directory.path().join("authority.pem");
        let mut command = Command::new("python3");
        command.args(["-c", include_str!("smtp.py")]).env("PYTHONPATH", package());
        if speaks != Speaks::Plainly {
            let certificate = directory.path().join("server.pem");
            vouch(&authority, &certificate);
            command.env("SMTP_CERTIFICATE", certificate);
        }
        command.env("SMTP_PORT", port.to_string());
        if speaks == Speaks::Tls {
            command.env("SMTP_WRAPPED", "yes");
        }
        if let Some(password) = password {
            command.env("SMTP_PASSWORD", password);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("python3 can be run");
        let mut lines = BufReader::new(child.stdout.take().expect("its stdout is a pipe")).lines();
        let port = lines.next().and_then(Result::ok).and_then(|line| line.parse().ok());
        let port = port.expect("aiosmtpd did not start; what it says is in this output");
        let taken = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&taken);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                log.lock().expect("whole").push(read(&line));
            }
        });
        Self { port, authority, taken, _directory: directory, child }
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

impl Drop for SmtpServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
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
fn vouch(authority: &Path, server: &Path) {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    std::fs::write(authority, issuer.pem()).expect("a file");
    std::fs::write(server, format!("{}{}", key.serialize_pem(), certificate.pem())).expect("a file");
}

/// Where the Python package is.
#[expect(clippy::disallowed_methods, reason = "what the tests are told is no setting of the service")]
fn package() -> PathBuf {
    let told = std::env::var("TENANTRY_TEST_AIOSMTPD").ok().filter(|told| !told.is_empty());
    let package = told
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/aiosmtpd")), PathBuf::from);
    assert!(
        package.join("aiosmtpd/smtp.py").is_file(),
        "no aiosmtpd in {}: run tests/run, which installs one, or set TENANTRY_TEST_AIOSMTPD to the directory that has the \
         Python package",
        package.display()
    );
    package
}
