//! The file that is imported, line by line.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use ring::digest::{Context, SHA256};

use super::TransferError;

/// The longest line. Nothing that is imported comes near it, and memory stays bounded whatever the file is.
const LONGEST: u64 = 1 << 20;

/// Where a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// Its number, from 1.
    pub line: u32,
    /// Where it begins, in bytes.
    pub offset: u64,
}

/// A line without its end, or why it is none.
pub type Text<'a> = Result<&'a str, &'static str>;

/// A line that was read, and where it is.
pub type Read<'a> = (At, Text<'a>);

/// A file that is being read.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    file: BufReader<File>,
    next: At,
    line: Vec<u8>,
}

impl Source {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self, TransferError> {
        let file = File::open(path).map_err(failed(path))?;
        // What can be read once alone would be empty when it is written, having been checked.
        if !file.metadata().map_err(failed(path))?.is_file() {
            let fault = "must be a file, which can be read more than once; a pipe cannot";
            return Err(failed(path)(io::Error::new(io::ErrorKind::InvalidInput, fault)));
        }
        let file = BufReader::with_capacity(1 << 16, file);
        Ok(Self { path: path.to_owned(), file, next: At { line: 1, offset: 0 }, line: Vec::new() })
    }

    /// The next line, without its end; nothing after the last one. A line that is none is told as a fault.
    pub fn next_line(&mut self) -> Result<Option<Read<'_>>, TransferError> {
        let at = self.next;
        let read = self.read_line().map_err(failed(&self.path))?;
        if read == 0 {
            return Ok(None);
        }
        self.next = At { line: at.line.saturating_add(1), offset: at.offset + read };
        if self.line.len() as u64 > LONGEST {
            return Ok(Some((at, Err("is longer than a megabyte"))));
        }
        Ok(Some((at, std::str::from_utf8(&self.line).map(str::trim_ascii).map_err(|_| "is not UTF-8"))))
    }

    /// A line that was read before.
    pub fn line_at(&mut self, at: At) -> Result<Option<Read<'_>>, TransferError> {
        self.file.seek(SeekFrom::Start(at.offset)).map_err(failed(&self.path))?;
        self.next = at;
        self.next_line()
    }

    /// Reads the next line, the beginning of it if it is too long, and says how long it is in the file.
    fn read_line(&mut self) -> io::Result<u64> {
        self.line.clear();
        let mut length = self.file.by_ref().take(LONGEST + 2).read_until(b'\n', &mut self.line)? as u64;
        if length == LONGEST + 2 && self.line.last() != Some(&b'\n') {
            length += skip_line(&mut self.file)?;
        }
        Ok(length)
    }
}

fn skip_line(file: &mut impl io::BufRead) -> io::Result<u64> {
    let mut skipped = 0;
    loop {
        let buffer = file.fill_buf()?;
        if buffer.is_empty() {
            return Ok(skipped);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(buffer.len(), |end| end + 1);
        file.consume(length);
        skipped += length as u64;
        if end.is_some() {
            return Ok(skipped);
        }
    }
}

/// What a file is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// SHA-256 of what it says, in hexadecimal digits.
    pub digest: String,
    /// How many lines it has.
    pub lines: u32,
    state: State,
}

/// Whether a file was touched: cheap to ask, while the digest is not.
#[derive(Clone, Debug, PartialEq, Eq)]
struct State {
    length: u64,
    modified: Option<SystemTime>,
}

fn state(path: &Path) -> Result<State, TransferError> {
    let metadata = std::fs::metadata(path).map_err(failed(path))?;
    Ok(State { length: metadata.len(), modified: metadata.modified().ok() })
}

impl Fingerprint {
    /// Takes the fingerprint of a file.
    pub fn take(path: &Path) -> Result<Self, TransferError> {
        let before = state(path)?;
        let mut file = File::open(path).map_err(failed(path))?;
        let (mut context, mut buffer) = (Context::new(&SHA256), vec![0; 1 << 16]);
        let (mut lines, mut last) = (0_u64, b'\n');
        loop {
            let length = file.read(&mut buffer).map_err(failed(path))?;
            let Some(read) = buffer.get(..length).filter(|read| !read.is_empty()) else { break };
            context.update(read);
            lines += read.iter().map(|byte| u64::from(*byte == b'\n')).sum::<u64>();
            last = read.last().copied().unwrap_or(last);
        }
        lines += u64::from(last != b'\n');
        let digest = context.finish().as_ref().iter().fold(String::new(), |digits, byte| format!("{digits}{byte:02x}"));
        let too_many = || failed(path)(io::Error::other("has more than 4,294,967,294 lines"));
        let lines = u32::try_from(lines).ok().filter(|lines| *lines < u32::MAX).ok_or_else(too_many)?;
        Ok(Self { digest, lines, state: before })
    }

    /// Refuses to go on with a file that was touched since.
    pub fn still_of(&self, path: &Path) -> Result<(), TransferError> {
        if state(path)? == self.state { Ok(()) } else { Err(TransferError::Changed) }
    }
}

/// What failed, of a file.
pub(super) fn failed(path: &Path) -> impl FnOnce(io::Error) -> TransferError {
    let path = path.to_owned();
    move |source| TransferError::File { path, source }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_are_numbered_and_can_be_read_again() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let long = "x".repeat(3 << 20);
        file.write_all(format!("one\r\n\n{long}\nfour\n").as_bytes()).unwrap();
        file.write_all(b"\xff\nlast").unwrap();
        let mut source = Source::open(file.path()).unwrap();
        let mut seen = Vec::new();
        while let Some((at, line)) = source.next_line().unwrap() {
            seen.push((at, line.map(str::to_owned)));
        }
        let told: Vec<_> = seen.iter().map(|(at, line)| (at.line, line.as_deref().map_err(|fault| *fault))).collect();
        assert_eq!(
            told,
            [
                (1, Ok("one")),
                (2, Ok("")),
                (3, Err("is longer than a megabyte")),
                (4, Ok("four")),
                (5, Err("is not UTF-8")),
                (6, Ok("last")),
            ]
        );
        for (at, line) in &seen {
            let (again, text) = source.line_at(*at).unwrap().unwrap();
            assert_eq!((again, text.map(str::to_owned)), (*at, line.clone()));
        }
        assert_eq!(Fingerprint::take(file.path()).unwrap().lines, 6);
    }
}
