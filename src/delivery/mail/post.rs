//! Who sends: an SMTP server, or a folder in which somebody looks.

use std::fs::{DirBuilder, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::transport::smtp::{AsyncSmtpTransportBuilder, PoolConfig};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use uuid::Uuid;

/// How long an SMTP server may take for a letter, or to be reached.
const PATIENCE: Duration = Duration::from_mins(1);

/// The most connections to an SMTP server that are kept while nothing is sent.
const IDLE_CONNECTIONS: u32 = 4;

/// Who is to send, as a setting says it. There may be a password in it, which its `Debug` leaves out.
#[derive(Clone, PartialEq, Eq)]
pub enum Sender {
    /// Nobody.
    Off,
    /// Nobody: letters are written into a folder.
    Folder(PathBuf),
    /// The SMTP server at a URL.
    Smtp(String),
}

/// A setting that says no sender. It does not repeat what was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SenderError {
    /// It has not the form.
    #[error(
        "TENANTRY_MAIL must be off, folder:PATH, smtps://USER:PASSWORD@HOST:PORT, or smtp://HOST:PORT, with ?tls=required for STARTTLS"
    )]
    Form,
    /// A user has no password.
    #[error("TENANTRY_MAIL has a user and no password: USER:PASSWORD@HOST, both percent-encoded")]
    NoPassword,
    /// The password would be read by whoever is in between.
    #[error("TENANTRY_MAIL would send its password without TLS: use smtps://… or ?tls=required")]
    InTheClear,
}

impl FromStr for Sender {
    type Err = SenderError;

    fn from_str(text: &str) -> Result<Self, SenderError> {
        match text.split_once(':') {
            None if text == "off" => return Ok(Self::Off),
            Some(("folder", path)) if !path.is_empty() => return Ok(Self::Folder(path.into())),
            Some(("smtp" | "smtps", _)) => {}
            _ => return Err(SenderError::Form),
        }
        let url = url::Url::parse(text).map_err(|_| SenderError::Form)?;
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(SenderError::Form)?;
        if !url.username().is_empty() || url.password().is_some() {
            url.password().filter(|_| !url.username().is_empty()).ok_or(SenderError::NoPassword)?;
            let tls = url.query_pairs().find(|(key, _)| key == "tls");
            let is_sure = url.scheme() == "smtps" || tls.is_some_and(|(_, wish)| wish == "required");
            let is_here = matches!(host, "localhost" | "127.0.0.1" | "[::1]");
            if !is_sure && !is_here {
                return Err(SenderError::InTheClear);
            }
        }
        Ok(Self::Smtp(text.to_owned()))
    }
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Off => "off",
            Self::Folder(_) => "folder",
            Self::Smtp(_) => "smtp",
        })
    }
}

/// Who sends.
#[derive(Debug)]
pub enum Post {
    /// Nobody: letters are written into a folder.
    Folder(PathBuf),
    /// An SMTP server.
    Smtp(Box<Smtp>),
}

/// An SMTP server, and the connections to it.
#[derive(Debug)]
pub struct Smtp {
    settings: AsyncSmtpTransportBuilder,
    patience: Duration,
    pooled: Mutex<AsyncSmtpTransport<Tokio1Executor>>,
}

impl Smtp {
    fn new(settings: AsyncSmtpTransportBuilder, patience: Duration) -> Self {
        let pool = PoolConfig::new().max_size(IDLE_CONNECTIONS);
        let settings = settings.timeout(Some(patience)).pool_config(pool);
        let pooled = Mutex::new(settings.clone().build());
        Self { settings, patience, pooled }
    }

    fn pooled(&self) -> MutexGuard<'_, AsyncSmtpTransport<Tokio1Executor>> {
        // Nothing that holds it panics half-way.
        self.pooled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn send(&self, letter: Message) -> Result<(), Undelivered> {
        let transport = self.pooled().clone();
        if let Ok(sent) = tokio::time::timeout(self.patience, transport.send(letter)).await {
            return sent.map(|_| ()).map_err(|error| undelivered(&error));
        }
        // The answer that did not come would be taken for that of another letter: no connection is used again.
        *self.pooled() = self.settings.clone().build();
        Err(Undelivered { reason: "the SMTP server took too long".into(), for_good: false })
    }
}

/// Why a letter was not sent.
#[derive(Debug)]
pub struct Undelivered {
    /// Why.
    pub reason: String,
    /// Whether trying again is of no use: the server will have nothing for this address.
    pub for_good: bool,
}

impl Post {
    /// Makes ready who is to send; nobody where nobody is to.
    ///
    /// # Errors
    ///
    /// When the folder cannot be made, or the URL is not one of an SMTP server.
    pub fn open(sender: &Sender, authority: Option<&Path>) -> anyhow::Result<Option<Self>> {
        Ok(Some(match sender {
            Sender::Off => return Ok(None),
            Sender::Folder(folder) => {
                // There are links in it by which one joins.
                DirBuilder::new().recursive(true).mode(0o700).create(folder).with_context(|| {
                    format!("e-mail goes into the folder {}, which cannot be made", folder.display())
                })?;
                Self::Folder(folder.clone())
            }
            Sender::Smtp(url) => {
                // Its error may repeat the URL, and with it the password.
                let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(url)
                    .map_err(|_| anyhow::anyhow!("TENANTRY_MAIL is not the URL of an SMTP server"))?;
                let builder = match authority {
                    None => builder,
                    Some(path) => builder.tls(trusting(url, path)?),
                };
                Self::Smtp(Box::new(Smtp::new(builder, PATIENCE)))
            }
        }))
    }

    /// What of it is said when the service starts.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Folder(_) => "folder",
            Self::Smtp(_) => "smtp",
        }
    }

    /// Sends a letter.
    pub async fn send(&self, mail_id: Uuid, letter: Message) -> Result<(), Undelivered> {
        match self {
            Self::Folder(folder) => {
                let (path, bytes) = (folder.join(format!("{mail_id}.eml")), letter.formatted());
                let whole = path.clone();
                // Nobody finds half of one.
                let written = tokio::task::spawn_blocking(move || {
                    let part = whole.with_extension("part");
                    let mut file =
                        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&part)?;
                    file.write_all(&bytes)?;
                    std::fs::rename(&part, &whole)
                });
                let written = written.await.map_err(std::io::Error::other).flatten();
                written.map_err(|error| Undelivered { reason: error.to_string(), for_good: false })?;
                tracing::info!(path = %path.display(), "an e-mail was written: nobody sends it");
                Ok(())
            }
            Self::Smtp(smtp) => smtp.send(letter).await,
        }
    }
}

fn undelivered(error: &lettre::transport::smtp::Error) -> Undelivered {
    let code = error.status().map(u16::from);
    Undelivered { reason: reason(error), for_good: is_for_good(code, &error.to_string()) }
}

/// Whether a refusal is about the address, which is not known or takes nothing. Only an enhanced code (RFC 3463) says so: without one
/// it may be about who sends, and that is of the server as it is now.
fn is_for_good(code: Option<u16>, said: &str) -> bool {
    const OF_THE_ADDRESS: [&str; 7] = ["5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10", "5.2.1", "5.4.4"];
    let mut words = said.split_whitespace().map(|word| word.trim_matches(|letter: char| !letter.is_ascii_digit()));
    matches!(code, Some(550 | 551 | 553)) && words.any(|word| OF_THE_ADDRESS.contains(&word))
}

/// How the server of a URL is spoken to, trusting an authority of one's own besides the public ones.
fn trusting(url: &str, path: &Path) -> anyhow::Result<Tls> {
    let text = std::fs::read(path).with_context(|| format!("TENANTRY_MAIL_CA: {}", path.display()))?;
    let authority = Certificate::from_pem(&text)
        .with_context(|| format!("TENANTRY_MAIL_CA: {} is no certificate in PEM", path.display()))?;
    let url = url::Url::parse(url).map_err(|_| anyhow::anyhow!("TENANTRY_MAIL is not the URL of an SMTP server"))?;
    let parameters = TlsParameters::builder(url.host_str().unwrap_or_default().to_owned());
    let parameters = parameters.add_root_certificate(authority).build()?;
    let wish = url.query_pairs().find(|(key, _)| key == "tls").map(|(_, wish)| wish.into_owned());
    match (url.scheme(), wish.as_deref()) {
        ("smtps", _) => Ok(Tls::Wrapper(parameters)),
        (_, Some("required")) => Ok(Tls::Required(parameters)),
        (_, Some("opportunistic")) => Ok(Tls::Opportunistic(parameters)),
        _ => anyhow::bail!("TENANTRY_MAIL_CA is of use only with smtps://… or ?tls=required"),
    }
}

/// What an SMTP server said, or why nothing was heard of it; without the addresses that it may repeat.
fn reason(error: &lettre::transport::smtp::Error) -> String {
    if let Some(code) = error.status() {
        return format!("the SMTP server refused with {code}");
    }
    let kind = if error.is_timeout() {
        "did not answer in time"
    } else if error.is_tls() {
        "could not be trusted (TLS)"
    } else if error.is_response() {
        "gave an answer that is none"
    } else if error.is_client() {
        "cannot take it as it is"
    } else {
        "could not be reached"
    };
    format!("the SMTP server {kind}")
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn who_is_to_send_is_said_in_one_setting_whose_password_nobody_overhears() {
        let said = |text: &str| text.parse::<Sender>().map(|sender| format!("{sender:?}"));
        assert_eq!(said("off"), Ok("off".to_owned()));
        assert_eq!(said("folder:/tmp/mail"), Ok("folder".to_owned()));
        for url in [
            "smtps://ann:secret@mail.example.com:465",
            "smtp://ann:secret@mail.example.com:587?tls=required",
            "smtp://ann:secret@localhost:2525",
            "smtp://relay:25",
        ] {
            assert_eq!(said(url), Ok("smtp".to_owned()), "{url}");
        }
        for wrong in
            ["", "on", "folder:", "smtp:", "smtp://", "smpts://ann:secret@b", "http://example.com", "mail.example.com"]
        {
            assert_eq!(said(wrong), Err(SenderError::Form), "{wrong}");
        }
        assert_eq!(said("smtps://ann@mail.example.com"), Err(SenderError::NoPassword));
        for open in ["smtp://ann:secret@mail.example.com:587", "smtp://ann:secret@mail.example.com?tls=opportunistic"] {
            assert_eq!(said(open), Err(SenderError::InTheClear), "{open}");
        }
    }

    #[test]
    fn only_what_is_said_of_the_address_is_for_good() {
        for said in [
            "permanent error (550): 5.1.1 <a@example.com> is not known here",
            "permanent error (550): no such user (#5.1.1)",
        ] {
            assert!(is_for_good(Some(550), said), "{said}");
        }
        for (code, said) in [
            (Some(550), "permanent error (550): 5.7.1 blocked"),
            (Some(550), "permanent error (550): relay not permitted"),
            (Some(553), "permanent error (553): 5.1.8 sender address rejected"),
            (Some(554), "permanent error (554): 5.1.1 no"),
            (Some(451), "transient error (451): 4.7.1 later"),
            (None, "connection refused"),
        ] {
            assert!(!is_for_good(code, said), "{said}");
        }
    }

    /// Takes one letter at each connection and, the first time, never says that it has.
    async fn falls_silent_once(listener: TcpListener) {
        for connection in 0.. {
            let (stream, _) = listener.accept().await.expect("a connection");
            tokio::spawn(async move {
                let (reading, mut writing) = stream.into_split();
                let mut lines = BufReader::new(reading).lines();
                writing.write_all(b"220 here\r\n").await.expect("heard");
                let mut in_letter = false;
                while let Ok(Some(line)) = lines.next_line().await {
                    let answer: &[u8] = match (in_letter, line.as_str()) {
                        (false, "DATA") => b"354 go on\r\n",
                        (false, _) => b"250 yes\r\n",
                        (true, ".") if connection > 0 => b"250 taken\r\n",
                        (true, _) => continue,
                    };
                    in_letter = answer.starts_with(b"354");
                    writing.write_all(answer).await.expect("heard");
                }
            });
        }
    }

    #[tokio::test]
    async fn the_answer_that_did_not_come_is_not_waited_for_by_another_letter() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(falls_silent_once(listener));
        let builder = AsyncSmtpTransport::<Tokio1Executor>::from_url(&format!("smtp://127.0.0.1:{port}")).unwrap();
        let smtp = Smtp::new(builder, Duration::from_millis(300));
        let letter = || {
            let letter = Message::builder().from("a@example.com".parse().unwrap()).to("b@example.com".parse().unwrap());
            letter.body("Hello".to_owned()).unwrap()
        };
        let late = smtp.send(letter()).await.unwrap_err();
        assert_eq!((late.reason.as_str(), late.for_good), ("the SMTP server took too long", false));
        smtp.send(letter()).await.unwrap();
        // And that connection is used again.
        smtp.send(letter()).await.unwrap();
    }
}
