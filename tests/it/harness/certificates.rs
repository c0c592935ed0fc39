//! An authority that vouches for servers and clients, and the files in which it does.

use std::path::PathBuf;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tempfile::TempDir;
use tenantry::transport::tls::{ClientAuth, Files};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// An authority, with a directory for what it signs.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) directory: TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        Self { issuer, directory: TempDir::new().expect("a directory") }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate and its key for these names; those with `://` are URIs.
    pub(crate) fn signs(&self, names: &[&str]) -> (String, String) {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.subject_alt_names = names
            .iter()
            .map(|name| {
                if name.contains("://") {
                    SanType::URI((*name).try_into().expect("ASCII"))
                } else {
                    SanType::DnsName((*name).try_into().expect("ASCII"))
                }
            })
            .collect();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        (certificate.pem(), key.serialize_pem())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn writes(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
    }

    /// Writes a certificate for a server at `localhost`, or another in its place.
    pub(crate) fn writes_server(&self) {
        let (certificate, key) = self.signs(&["localhost"]);
        self.writes("server.crt", &certificate);
        self.writes("server.key", &key);
    }

    /// The files of a server, which asks clients for a certificate of this authority if it is told to.
    pub(crate) fn files(&self, clients: Option<ClientAuth>) -> Files {
        self.writes_server();
        self.writes("ca.crt", &self.pem());
        let client_authority = clients.map(|auth| (self.path("ca.crt"), auth));
        Files { certificate: self.path("server.crt"), key: self.path("server.key"), client_authority }
    }

    /// A channel that believes this authority, of a client with a certificate for these names, or without one.
    pub(crate) fn channel(&self, address: std::net::SocketAddr, names: &[&str]) -> Channel {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.pem())).domain_name("localhost");
        if !names.is_empty() {
            let (certificate, key) = self.signs(names);
            tls = tls.identity(Identity::from_pem(certificate, key));
        }
        let endpoint = Endpoint::from_shared(format!("https://{address}")).expect("a URL");
        endpoint.tls_config(tls).expect("TLS").connect_lazy()
    }
}
