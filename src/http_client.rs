//! What the clients of HTTP have in common: whom they trust, and how they tell what went wrong.

use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::{Host, Url};

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The library refuses.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// An authority of one's own cannot be read.
    #[error("it is no certificate in PEM")]
    Authority(#[from] rustls::pki_types::pem::Error),
    /// There is none in the file.
    #[error("there is no certificate in it")]
    NoAuthority,
}

/// ring, named here so that nothing depends on what the process has installed, and the roots that the databases' TLS has, with an
/// authority of one's own besides.
///
/// # Errors
///
/// When the authority's certificates, in PEM, cannot be read.
pub fn tls(authority: Option<&Path>) -> Result<rustls::ClientConfig, TlsError> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(path) = authority {
        let pem = std::fs::read(path).map_err(rustls::pki_types::pem::Error::Io)?;
        for certificate in certificates(&pem)? {
            roots.add(certificate)?;
        }
    }
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The error and its causes, without the address: there may be in it what is not for the log.
#[must_use]
pub fn told(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told = format!("{told}: {error}");
        cause = error.source();
    }
    told
}

/// The certificates in a PEM, of which there must be one.
///
/// # Errors
///
/// When there is none, or one cannot be read.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    if certificates.is_empty() { Err(TlsError::NoAuthority) } else { Ok(certificates) }
}

/// Whether a URL leads to this machine, so that nobody is on the way.
#[must_use]
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The body of an answer.
///
/// # Errors
///
/// Says that it broke off, or is larger than `largest` bytes.
pub async fn whole(mut response: reqwest::Response, largest: usize) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(told)? {
        if body.len() + piece.len() > largest {
            return Err("an answer that is too large".into());
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
