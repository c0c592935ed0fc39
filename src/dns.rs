//! The domain name system, asked for TXT records: by the machine's resolver, by one name server, or from a zone file.
//!
//! Nothing is kept between two questions: whoever has just set a record wants it to be seen, and a proof that was taken back
//! must not be. Questions are rare, so each reads its configuration anew.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::rdata::TXT;
use hickory_resolver::proto::rr::{Name, RData, RecordType, RrKey};
use hickory_resolver::proto::serialize::txt::Parser;

/// How long an answer may take in all, tries that were repeated among them.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where the port of a name server is not said.
const PORT: u16 = 53;

/// Records of a zone file need none of their own.
const ZONE_DEFAULTS: &str = "$TTL 60\n";

/// Who is asked, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dns {
    /// Who is asked.
    pub source: Source,
    /// How long an answer may take.
    pub patience: Duration,
}

/// Who is asked for records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The name servers of `/etc/resolv.conf`.
    System,
    /// One name server.
    Server(SocketAddr),
    /// A file in master-file form (RFC 1035, 5).
    Zone(PathBuf),
}

/// Why there is no answer. That there is no such record is one.
#[derive(Debug, thiserror::Error)]
pub enum DnsFault {
    /// Nobody answered in time.
    #[error("no answer in time")]
    Late,
    /// The name servers fail, or are not known.
    #[error("the name servers do not answer")]
    Resolver(#[from] NetError),
    /// The zone file cannot be read.
    #[error("the zone file cannot be read")]
    Zone(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<Source> for Dns {
    fn from(source: Source) -> Self {
        Self { source, patience: PATIENCE }
    }
}

impl FromStr for Dns {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let source = match text.strip_prefix("zone:") {
            Some("") => return Err("must name a file after `zone:`"),
            Some(path) => Source::Zone(path.into()),
            None if text == "system" => Source::System,
            None => {
                Source::Server(server(text).ok_or("must be system, ADDRESS[:PORT] of a name server, or zone:FILE")?)
            }
        };
        Ok(source.into())
    }
}

fn server(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let without_port = || bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, PORT));
    text.parse().ok().or_else(without_port)
}

impl Dns {
    /// What the TXT records of a name say, the strings of each joined. A name that has none has an empty list.
    ///
    /// # Errors
    ///
    /// When nobody can tell at the moment.
    pub async fn txt(&self, name: &str) -> Result<Vec<String>, DnsFault> {
        // Fully qualified, so that no search domain of the machine is ever tried after it.
        let mut name = Name::from_ascii(name).map_err(NetError::from)?;
        name.set_fqdn(true);
        let asked = async {
            match &self.source {
                Source::Zone(path) => in_zone(path.clone(), name).await,
                Source::System => ask(&system(self.options()).await?, name).await,
                Source::Server(address) => ask(&one_server(*address, self.options())?, name).await,
            }
        };
        tokio::time::timeout(self.patience, asked).await.map_err(|_| DnsFault::Late)?
    }

    fn options(&self) -> ResolverOpts {
        let mut options = ResolverOpts::default();
        // Two tries fit into the patience: a datagram may get lost.
        options.timeout = self.patience.mul_f64(0.45);
        options.attempts = 1;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options
    }
}

async fn system(options: ResolverOpts) -> Result<TokioResolver, DnsFault> {
    // It reads a file.
    let built =
        tokio::task::spawn_blocking(move || TokioResolver::builder_tokio()?.with_options(options).build()).await;
    Ok(built.map_err(|_| NetError::Message("the configuration of the machine's resolver cannot be read"))??)
}

fn one_server(address: SocketAddr, options: ResolverOpts) -> Result<TokioResolver, NetError> {
    let mut server = NameServerConfig::udp_and_tcp(address.ip());
    for connection in &mut server.connections {
        connection.port = address.port();
    }
    let config = ResolverConfig::from_name_servers(vec![server]);
    TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).with_options(options).build()
}

async fn ask(resolver: &TokioResolver, name: Name) -> Result<Vec<String>, DnsFault> {
    match resolver.lookup(name, RecordType::TXT).await {
        Ok(found) => Ok(said(found.answers().iter().map(|record| &record.data))),
        Err(error) if error.is_no_records_found() => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

async fn in_zone(path: PathBuf, name: Name) -> Result<Vec<String>, DnsFault> {
    let read = tokio::task::spawn_blocking(move || read_zone(&path, &name)).await;
    // A file that the parser breaks on is one that cannot be read.
    read.map_err(|panicked| DnsFault::Zone(panicked.into()))?
}

fn read_zone(path: &Path, name: &Name) -> Result<Vec<String>, DnsFault> {
    let text = std::fs::read_to_string(path).map_err(|error| DnsFault::Zone(error.into()))?;
    let parser = Parser::new(format!("{ZONE_DEFAULTS}{text}"), Some(path.to_owned()), Some(Name::root()));
    let (_, records) = parser.parse().map_err(|error| DnsFault::Zone(error.into()))?;
    let found = records.get(&RrKey::new(name.into(), RecordType::TXT));
    Ok(found.map(|set| said(set.records_without_rrsigs().map(|record| &record.data))).unwrap_or_default())
}

fn said<'r>(records: impl Iterator<Item = &'r RData>) -> Vec<String> {
    let texts = records.filter_map(|data| match data {
        RData::TXT(text) => Some(joined(text)),
        _ => None,
    });
    texts.collect()
}

/// The strings of a record as one text. Quotation marks around a string are none of it: forms of DNS providers keep those that
/// people type, and the parser of zone files those between parentheses.
fn joined(text: &TXT) -> String {
    let strings = text.txt_data.iter().map(|string| String::from_utf8_lossy(string));
    strings.map(|string| string.trim_matches('"').to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_names_who_is_asked() {
        let source = |text: &str| text.parse::<Dns>().map(|dns| dns.source);
        assert_eq!(source("system"), Ok(Source::System));
        assert_eq!(source("zone:/etc/zone"), Ok(Source::Zone("/etc/zone".into())));
        for (text, address) in [
            ("10.0.0.2", "10.0.0.2:53"),
            ("10.0.0.2:5353", "10.0.0.2:5353"),
            ("::1", "[::1]:53"),
            ("[::1]", "[::1]:53"),
            ("[::1]:5353", "[::1]:5353"),
        ] {
            assert_eq!(source(text), Ok(Source::Server(address.parse().unwrap())), "{text}");
        }
        for text in ["", "zone:", "System", "dns.example.com", "10.0.0.2:", "10.0.0.2:99999", "1.2.3"] {
            assert!(source(text).is_err(), "{text:?} was taken");
        }
    }

    async fn read(zone: &str, name: &str) -> Result<Vec<String>, DnsFault> {
        let directory = tempfile::TempDir::new().unwrap();
        let path = directory.path().join("zone");
        std::fs::write(&path, zone).unwrap();
        Dns::from(Source::Zone(path)).txt(name).await
    }

    #[tokio::test]
    async fn a_zone_file_says_what_a_name_server_would() {
        let zone = "; ours\n\
                    _x.example.com. 300 IN TXT \"one \" \"text; of two\"\n\
                    _X.Example.COM. IN TXT another ; a comment\n\
                    $ORIGIN example.org.\n\
                    _x TXT ( \"over\"\n \"lines\" )\n\
                    _y A 127.0.0.1\n";
        let mut said = read(zone, "_x.example.com").await.unwrap();
        said.sort();
        assert_eq!(said, ["another", "one text; of two"]);
        assert_eq!(read(zone, "_X.EXAMPLE.org").await.unwrap(), ["overlines"]);
        assert_eq!(read(zone, "_y.example.org").await.unwrap(), [""; 0]);
        assert_eq!(read("", "_x.example.com").await.unwrap(), [""; 0]);
    }

    #[tokio::test]
    async fn a_zone_file_that_is_none_is_no_answer() {
        for zone in ["_x nonsense", "_x.example.com. TXT \"open", "_x.example.com. FOO bar\n", "$INCLUDE nothing\n"] {
            assert!(matches!(read(zone, "_x.example.com").await, Err(DnsFault::Zone(_))), "{zone:?} was read");
        }
        let missing = Dns::from(Source::Zone("/nowhere/zone".into())).txt("_x.example.com").await;
        let Err(DnsFault::Zone(source)) = missing else { panic!("{missing:?}") };
        assert!(source.downcast_ref::<std::io::Error>().is_some(), "{source:?}");
    }
}
