//! TLS: certificates from files that are read again when they change, and who a client's certificate says that it is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use anyhow::Context as _;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, ServerConnection};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use crate::http_client::certificates;
use crate::id::ServiceName;

/// How often the files are looked at. Kubernetes takes a minute to bring a new certificate to its pods.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Whether clients need a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ClientAuth {
    /// Whoever has none is not spoken with.
    Required,
    /// Whoever has one is known by it; others say otherwise who they are.
    Optional,
}

/// Where the certificates are.
#[derive(Clone, Debug)]
pub struct Files {
    /// The server's certificate with what leads to its authority, in PEM.
    pub certificate: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
    /// The authorities that vouch for clients, in PEM, and whether each client needs one to.
    pub client_authority: Option<(PathBuf, ClientAuth)>,
}

/// A name in a client's certificate, and the trusted service that has it: `spiffe://prod/ns/shop/sa/app=app`, `app.shop.svc=app`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedService {
    name: String,
    service: ServiceName,
}

impl FromStr for NamedService {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, service) = text.rsplit_once('=').ok_or("must be NAME=SERVICE: app.shop.svc=app")?;
        if name.is_empty() || name.contains('*') {
            return Err("the name must stand in the certificate as it is, without wildcards".into());
        }
        let service = ServiceName::parse(service).map_err(|fault| format!("the service {fault}"))?;
        Ok(Self { name: name.to_owned(), service })
    }
}

/// What is measured of certificates.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    /// When the server's certificate ends, in seconds since 1970.
    pub expiry: Gauge,
    /// Changed files that could not be used.
    pub failures: Counter,
}

/// The certificates in force.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    services: BTreeMap<String, ServiceName>,
    meter: Meter,
    current: RwLock<Loaded>,
}

/// What was in the files.
#[derive(Clone, Debug)]
struct Loaded {
    contents: Contents,
    config: Arc<ServerConfig>,
    /// Ends when clients are to be judged anew.
    retired: CancellationToken,
}

/// The bytes of the files.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_authority: Option<Vec<u8>>,
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Contents")
    }
}

impl Contents {
    fn read(files: &Files) -> anyhow::Result<Self> {
        let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        Ok(Self {
            certificate: read(&files.certificate)?,
            key: read(&files.key)?,
            client_authority: files.client_authority.as_ref().map(|(path, _)| read(path)).transpose()?,
        })
    }
}

impl Tls {
    /// Reads the certificates.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or used.
    pub fn open(files: Files, services: &[NamedService], meter: Meter) -> anyhow::Result<Self> {
        let loaded = load(&files, Contents::read(&files)?, &meter)?;
        let mut by_name = BTreeMap::new();
        for NamedService { name, service } in services {
            let other = by_name.insert(name.clone(), service.clone()).filter(|other| other != service);
            anyhow::ensure!(other.is_none(), "TENANTRY_TLS_SERVICES: {name} cannot be two services");
        }
        Ok(Self { files, services: by_name, meter, current: RwLock::new(loaded) })
    }

    /// With what to accept a connection now, and until when it is good.
    pub(super) fn acceptor(&self) -> (TlsAcceptor, CancellationToken) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        (TlsAcceptor::from(Arc::clone(&current.config)), current.retired.clone())
    }

    /// The trusted service that the certificate of a client names.
    pub(super) fn service_of(&self, connection: &ServerConnection) -> Option<ServiceName> {
        let certificate = connection.peer_certificates()?.first()?;
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::URI(name) => self.services.get(*name).cloned(),
            _ => None,
        })
    }

    /// Follows the files until `stop`. What cannot be used is told once, and changes nothing.
    pub async fn follow(&self, stop: CancellationToken) {
        let mut told = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
            match self.look() {
                Ok(()) => told = None,
                Err(error) => {
                    let error = format!("{error:#}");
                    if told.as_ref() != Some(&error) {
                        self.meter.failures.inc();
                        tracing::error!(error, "changed certificates cannot be used; those from before stay in force");
                        told = Some(error);
                    }
                }
            }
        }
    }

    /// Takes the files as they are now.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or used; what was before stays in force.
    pub fn look(&self) -> anyhow::Result<()> {
        let contents = Contents::read(&self.files)?;
        let before = self.current.read().unwrap_or_else(PoisonError::into_inner).clone();
        if contents == before.contents {
            return Ok(());
        }
        let mut loaded = load(&self.files, contents, &self.meter)?;
        let is_same_authority = loaded.contents.client_authority == before.contents.client_authority;
        if is_same_authority {
            loaded.retired = before.retired.clone();
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = loaded;
        tracing::info!("new certificates are in force");
        if !is_same_authority {
            // Whom the authorities do not vouch for any more shall not stay on.
            before.retired.cancel();
        }
        Ok(())
    }
}

fn load(files: &Files, contents: Contents, meter: &Meter) -> anyhow::Result<Loaded> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let of = |path: &Path| format!("{}", path.display());
    let chain = certificates(&contents.certificate).with_context(|| of(&files.certificate))?;
    // The detail of the parser is dropped: it may quote the key.
    let key = PrivateKeyDer::from_pem_slice(&contents.key)
        .map_err(|_| anyhow::anyhow!("{}: it has no private key in PEM", of(&files.key)))?;
    let expiry = chain.first().and_then(|first| X509Certificate::from_der(first).ok());
    let expiry = expiry.map(|(_, certificate)| certificate.validity().not_after.timestamp());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match (&files.client_authority, &contents.client_authority) {
        (Some((path, auth)), Some(pem)) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(pem).with_context(|| of(path))? {
                roots.add(certificate).with_context(|| of(path))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match auth {
                ClientAuth::Required => verifier,
                ClientAuth::Optional => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().with_context(|| of(path))?)
        }
        _ => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .with_context(|| format!("{} with {}", of(&files.certificate), of(&files.key)))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    if contents.client_authority.is_some() {
        // Who resumes a session is not asked for a certificate again, and one that has ended would serve for ever.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
    }
    meter.expiry.set(expiry.unwrap_or_default());
    Ok(Loaded { contents, config: Arc::new(config), retired: CancellationToken::new() })
}
