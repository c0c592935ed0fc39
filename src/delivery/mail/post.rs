//! Who sends: an SMTP server, or a folder in which somebody looks.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context as _;
use lettre::transport::smtp::PoolConfig;
use lettre::transport::smtp::client::{Certificate, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use uuid::Uuid;

/// How long an SMTP server may take for one command.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long it may take for all of a letter.
const WHOLE_PATIENCE: Duration = Duration::from_secs(90);

/// The most connections to an SMTP server.
const CONNECTIONS: u32 = 4;

/// Who is to send, as a setting says it.
#[derive(Clone, PartialEq, Eq)]
pub enum Sender {
    /// Nobody.
    Off,
    /// Nobody: letters are written into a folder.
    Folder(PathBuf),
    /// The SMTP server at a URL, which may have a password in it.
    Smtp(String),
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => formatter.write_str("off"),
            Self::Folder(folder) => write!(formatter, "folder:{}", folder.display()),
            Self::Smtp(_) => formatter.write_str("smtp"),
        }
    }
}

/// A setting that says no sender.
#[derive(Debug, thiserror::Error)]
#[error(
    "must be off, folder:PATH, smtps://USER:PASSWORD@HOST:PORT, or smtp://HOST:PORT with ?tls=required for STARTTLS"
)]
pub struct SenderError;

impl FromStr for Sender {
    type Err = SenderError;

    fn from_str(text: &str) -> Result<Self, SenderError> {
        match text.split_once(':') {
            None if text == "off" => Ok(Self::Off),
            Some(("folder", path)) if !path.is_empty() => Ok(Self::Folder(path.into())),
            Some(("smtp" | "smtps", rest)) if rest.len() > 2 && rest.starts_with("//") => Ok(Self::Smtp(text.into())),
            _ => Err(SenderError),
        }
    }
}

/// Who sends.
#[derive(Debug)]
pub enum Post {
    /// Nobody: letters are written into a folder.
    Folder(PathBuf),
    /// An SMTP server.
    Smtp(Box<AsyncSmtpTransport<Tokio1Executor>>),
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
                std::fs::create_dir_all(folder).with_context(|| {
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
                let pool = PoolConfig::new().max_size(CONNECTIONS);
                Self::Smtp(Box::new(builder.timeout(Some(PATIENCE)).pool_config(pool).build()))
            }
        }))
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
                    std::fs::write(&part, bytes).and_then(|()| std::fs::rename(&part, &whole))
                });
                let written = written.await.map_err(std::io::Error::other).flatten();
                written.map_err(|error| Undelivered { reason: error.to_string(), for_good: false })?;
                tracing::info!(path = %path.display(), "an e-mail was written: nobody sends it");
                Ok(())
            }
            Self::Smtp(transport) => {
                let Ok(sent) = tokio::time::timeout(WHOLE_PATIENCE, transport.send(letter)).await else {
                    return Err(Undelivered { reason: "the SMTP server took too long".into(), for_good: false });
                };
                sent.map(|_| ()).map_err(|error| {
                    let code = error.status().map(u16::from);
                    // The address is not known, not local, or not allowed. Other refusals may be of the server as it is now.
                    let for_good = matches!(code, Some(550 | 551 | 553));
                    Undelivered { reason: reason(&error), for_good }
                })
            }
        }
    }
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
    use super::*;

    #[test]
    fn who_is_to_send_is_said_in_one_setting_and_its_password_is_shown_nowhere() {
        let said = |text: &str| text.parse::<Sender>().map(|sender| format!("{sender:?}")).ok();
        assert_eq!(said("off").as_deref(), Some("off"));
        assert_eq!(said("folder:/tmp/mail").as_deref(), Some("folder:/tmp/mail"));
        assert_eq!(said("smtps://ann:secret@mail.example.com:465").as_deref(), Some("smtp"));
        assert_eq!(said("smtp://localhost:2525").as_deref(), Some("smtp"));
        for wrong in ["", "on", "folder:", "smtp:", "smtp://", "http://example.com", "mail.example.com"] {
            assert_eq!(said(wrong), None, "{wrong}");
        }
    }
}
