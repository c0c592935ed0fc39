//! HTTP/2 as frames on a connection: what no library would send, and what came back, counted.
//!
//! <https://www.rfc-editor.org/rfc/rfc9113#section-6>

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;

use super::person::Identity;

/// Longer than a server that works takes for anything here.
const PATIENCE: Duration = Duration::from_secs(40);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The kinds of frames.
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const PRIORITY: u8 = 2;
    pub(crate) const RESET: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const GO_AWAY: u8 = 7;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
}

/// The flags of frames.
pub(crate) mod flag {
    pub(crate) const ACK: u8 = 1;
    pub(crate) const END_STREAM: u8 = 1;
    pub(crate) const END_HEADERS: u8 = 4;
    pub(crate) const PADDED: u8 = 8;
}

/// Settings.
pub(crate) mod setting {
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
}

/// What a connection is ended with by a server that has had enough of it.
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;

/// One frame, of any kind and with any payload.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

pub(crate) fn data(stream: u32, ends: bool, bytes: &[u8]) -> Vec<u8> {
    frame(kind::DATA, if ends { flag::END_STREAM } else { 0 }, stream, bytes)
}

/// Headers that are complete, of a call of which the body may follow.
pub(crate) fn headers(stream: u32, ends: bool, block: &[u8]) -> Vec<u8> {
    frame(kind::HEADERS, flag::END_HEADERS | if ends { flag::END_STREAM } else { 0 }, stream, block)
}

pub(crate) fn reset(stream: u32) -> Vec<u8> {
    const CANCEL: u32 = 8;
    frame(kind::RESET, 0, stream, &CANCEL.to_be_bytes())
}

pub(crate) fn ping(number: u64) -> Vec<u8> {
    frame(kind::PING, 0, 0, &number.to_be_bytes())
}

pub(crate) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let one = |(name, value): &(u16, u32)| [name.to_be_bytes().as_slice(), &value.to_be_bytes()].concat();
    frame(kind::SETTINGS, 0, 0, &settings.iter().flat_map(one).collect::<Vec<_>>())
}

pub(crate) fn window_update(stream: u32, by: u32) -> Vec<u8> {
    frame(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes())
}

/// Headers as HPACK writes them that it is not to remember.
pub(crate) fn block(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in headers {
        block.push(0);
        for text in [name, value] {
            string(&mut block, text.as_bytes());
        }
    }
    block
}

/// A string of HPACK that is not compressed.
pub(crate) fn string(block: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        block.push(u8::try_from(text.len()).expect("less than 127"));
    } else {
        block.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            block.push(u8::try_from(rest % 128).expect("less than 128") | 128);
            rest /= 128;
        }
        block.push(u8::try_from(rest).expect("less than 128"));
    }
    block.extend_from_slice(text);
}

/// The headers of a call.
pub(crate) fn call(path: &str, identity: &Identity) -> Vec<u8> {
    let mut all = vec![
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    all.extend(identity.0.iter().map(|(name, value)| (*name, value.as_str())));
    block(&all)
}

/// What came from the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Frames of headers: answers, or their ends.
    pub(crate) headers: usize,
    /// Streams that the server ended.
    pub(crate) ended: usize,
    pub(crate) data_bytes: usize,
    pub(crate) pongs: usize,
    pub(crate) settings_acknowledged: usize,
    /// How many streams were reset, by the reason.
    pub(crate) resets: BTreeMap<u32, usize>,
    /// How many bytes may be sent: by the connection, and by each stream beyond what it may from the start.
    pub(crate) window: BTreeMap<u32, usize>,
    /// Why the server ended the connection, if it said.
    pub(crate) gone: Option<u32>,
    /// Whether the connection is over.
    pub(crate) closed: bool,
}

impl Seen {
    /// What became of a client, in a few words.
    pub(crate) fn told(&self) -> String {
        let mut told = vec![format!("{} answered", self.ended)];
        told.extend(self.resets.iter().map(|(reason, count)| format!("{count} reset ({})", reason_name(*reason))));
        if self.closed {
            told.push(self.gone.map_or("cut off".into(), |reason| format!("cut off ({})", reason_name(reason))));
        }
        told.join(", ")
    }
}

fn reason_name(reason: u32) -> String {
    let name = match reason {
        0 => "NO_ERROR",
        1 => "PROTOCOL_ERROR",
        FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
        REFUSED_STREAM => "REFUSED_STREAM",
        9 => "COMPRESSION_ERROR",
        ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
        other => return other.to_string(),
    };
    name.into()
}

/// A connection of a client that keeps to no rule but those that its test has in mind.
#[derive(Debug)]
pub(crate) struct Wire {
    writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    seen: Arc<Mutex<Seen>>,
    reader: JoinHandle<()>,
    pings: u64,
}

impl Wire {
    /// Connects, and says hello.
    pub(crate) async fn open(address: SocketAddr, with: &[(u16, u32)]) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a live connection");
        let (read, mut write) = stream.into_split();
        // Before anything is heard that would have to be acknowledged.
        drop(write.write_all(&[PREFACE, &settings(with)].concat()).await);
        let (writer, seen) = (Arc::new(tokio::sync::Mutex::new(write)), Arc::new(Mutex::default()));
        let reader = tokio::spawn(reads(read, Arc::clone(&writer), Arc::clone(&seen)));
        Self { writer, seen, reader, pings: 0 }
    }

    /// Says hello, and never hears what is answered.
    pub(crate) async fn deaf(address: SocketAddr) -> Self {
        let wire = Self::open(address, &[]).await;
        wire.reader.abort();
        wire
    }

    /// Sends many pieces, and gives how many bytes were taken before the server did not read any more.
    pub(crate) async fn floods_until_it_stalls(&self, pieces: impl IntoIterator<Item = Vec<u8>>) -> usize {
        const STALLED: Duration = Duration::from_secs(2);
        let bytes: Vec<u8> = pieces.into_iter().flatten().collect();
        let mut writer = self.writer.lock().await;
        let mut taken = 0;
        while taken < bytes.len() {
            match tokio::time::timeout(STALLED, writer.write(&bytes[taken..])).await {
                Ok(Ok(more)) => taken += more,
                Ok(Err(_)) | Err(_) => break,
            }
        }
        taken
    }

    /// Sends bytes, and gives whether they could be sent: the server may have ended the connection.
    pub(crate) async fn sends(&self, bytes: &[u8]) -> bool {
        let writing = async { self.writer.lock().await.write_all(bytes).await };
        tokio::time::timeout(PATIENCE, writing).await.expect("the server reads").is_ok()
    }

    /// Sends many pieces, until the server ends the connection; gives how many were sent.
    pub(crate) async fn floods(&self, pieces: impl IntoIterator<Item = Vec<u8>>) -> usize {
        let (mut count, mut pending, mut bytes) = (0, 0, Vec::new());
        for piece in pieces {
            bytes.extend(piece);
            pending += 1;
            if bytes.len() >= 16 * 1024 {
                if !self.sends(&bytes).await {
                    return count;
                }
                count += pending;
                (pending, bytes) = (0, Vec::new());
            }
        }
        if self.sends(&bytes).await { count + pending } else { count }
    }

    /// Calls so many times, some at a time, until each is answered or the server ends the connection.
    pub(crate) async fn asks(&self, count: u32, at_once: usize, call: impl Fn(u32) -> Vec<u8>) -> Seen {
        let streams: Vec<_> = (0..count).map(|number| 2 * number + 1).collect();
        let mut asked = 0;
        for some in streams.chunks(at_once) {
            self.floods(some.iter().map(|stream| call(*stream))).await;
            asked += some.len();
            let seen = self.until(|seen| seen.ended >= asked || seen.closed).await;
            if seen.closed {
                break;
            }
        }
        self.seen()
    }

    /// Sends a body but not its end, in pieces of so many bytes, as fast as the server lets it; gives whether all of it could be sent.
    pub(crate) async fn pours(&self, stream: u32, body: &[u8], piece: usize) -> bool {
        const AT_ONCE: usize = 8 * 1024;
        const FROM_THE_START: usize = 65_535;
        let mut sent = 0;
        for some in body.chunks(AT_ONCE) {
            let may = |seen: &Seen| {
                let window = |stream| FROM_THE_START + seen.window.get(&stream).copied().unwrap_or_default();
                sent + some.len() <= window(0).min(window(stream))
            };
            let seen = self.until(|seen| may(seen) || is_refused(seen)).await;
            let pieces: Vec<u8> = some.chunks(piece).flat_map(|piece| data(stream, false, piece)).collect();
            if is_refused(&seen) || !self.sends(&pieces).await {
                return false;
            }
            sent += some.len();
        }
        true
    }

    /// Waits until the server has read all that was sent before, or has ended the connection; gives whether it is there.
    pub(crate) async fn is_heard(&mut self) -> bool {
        self.pings += 1;
        let pongs = self.seen().pongs + 1;
        self.sends(&ping(self.pings)).await
            && self.until(|seen| seen.pongs >= pongs || seen.closed).await.gone.is_none()
    }

    /// What has come.
    pub(crate) fn seen(&self) -> Seen {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no reader panicked")
    }

    /// Waits for what is to come.
    pub(crate) async fn until(&self, come: impl Fn(&Seen) -> bool) -> Seen {
        let began = tokio::time::Instant::now();
        while !come(&self.lock()) {
            assert!(began.elapsed() < PATIENCE, "waited in vain; what came: {:?}", self.seen());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        self.seen()
    }

    /// Waits until the server has ended the connection.
    pub(crate) async fn closes(&self) -> Seen {
        self.until(|seen| seen.closed).await
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Whether the server has heard enough of the only call that there is.
fn is_refused(seen: &Seen) -> bool {
    seen.closed || seen.ended > 0 || !seen.resets.is_empty()
}

/// Counts what comes, and gives signs of life when it is asked for one.
async fn reads(mut read: OwnedReadHalf, writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>, seen: Arc<Mutex<Seen>>) {
    let mut read = tokio::io::BufReader::with_capacity(64 * 1024, &mut read);
    loop {
        let mut head = [0; 9];
        let mut payload = Vec::new();
        let whole = async {
            read.read_exact(&mut head).await?;
            payload.resize(number(&head[..3]), 0);
            read.read_exact(&mut payload).await
        };
        let is_whole = whole.await.is_ok();
        let mut seen = seen.lock().expect("nobody panicked");
        if !is_whole {
            seen.closed = true;
            return;
        }
        let (flags, stream) = (head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        let word = |at: usize| u32::try_from(number(payload.get(at..at + 4).unwrap_or_default())).expect("4 bytes");
        let ends = usize::from(flags & flag::END_STREAM != 0);
        match head[3] {
            kind::DATA => {
                seen.data_bytes += payload.len();
                seen.ended += ends;
            }
            kind::HEADERS => {
                seen.headers += 1;
                seen.ended += ends;
            }
            kind::RESET => *seen.resets.entry(word(0)).or_default() += 1,
            kind::SETTINGS if flags & flag::ACK != 0 => seen.settings_acknowledged += 1,
            kind::PING if flags & flag::ACK != 0 => seen.pongs += 1,
            kind::GO_AWAY => seen.gone = Some(word(4)),
            kind::WINDOW_UPDATE => *seen.window.entry(stream).or_default() += word(0) as usize,
            kind::SETTINGS | kind::PING => {
                let acknowledged = if head[3] == kind::PING { payload.clone() } else { Vec::new() };
                let (writer, bytes) = (Arc::clone(&writer), frame(head[3], flag::ACK, 0, &acknowledged));
                // What it has to say itself may wait for the server to read.
                tokio::spawn(async move { drop(writer.lock().await.write_all(&bytes).await) });
            }
            _ => {}
        }
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}
