//! The binary itself, run as an operator runs it: with flags, environment and signals, its log read line by line.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use sea_orm::{ConnectOptions, DatabaseConnection};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

use super::{Backend, postgres};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// The binary in a directory, with no setting of this process, and one that shows how errors read to somebody who debugs.
pub(crate) fn tenantry(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tenantry"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TENANTRY_") {
            command.env_remove(name);
        }
    }
    command.current_dir(directory).env("RUST_BACKTRACE", "1").stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A directory to run it in, and an empty database.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) directory: TempDir,
    pub(crate) url: String,
    database_name: Option<String>,
}

impl Home {
    pub(crate) async fn new(backend: Backend) -> Self {
        let directory = TempDir::new().expect("a directory for the test");
        match backend {
            Backend::Sqlite => Self { directory, url: "sqlite:tenantry.db".into(), database_name: None },
            Backend::Postgres => {
                let name = postgres::server().create_database(None).await;
                Self { directory, url: postgres::server().url(&name), database_name: Some(name) }
            }
        }
    }

    /// The binary, here and on this database.
    pub(crate) fn tenantry(&self, arguments: &[&str]) -> Command {
        let mut command = tenantry(self.directory.path());
        command.args(arguments).env("TENANTRY_DATABASE_URL", &self.url);
        command
    }

    /// A connection for looking behind the scenes.
    pub(crate) async fn database(&self) -> DatabaseConnection {
        let url = self.url.replace("sqlite:", &format!("sqlite:{}/", self.directory.path().display()));
        let mut options = ConnectOptions::new(url);
        options.max_connections(1).sqlx_logging(false);
        sea_orm::Database::connect(options).await.expect("the database of the test")
    }

    /// Drops the database.
    pub(crate) async fn end(self) {
        if let Some(name) = &self.database_name {
            postgres::server().drop_database(name).await;
        }
    }
}

/// Runs it to its end. One that does not end is killed, and fails the test.
pub(crate) async fn finished(mut command: Command) -> Output {
    let mut child = command.spawn().expect("the binary can be run");
    let (stdout, stderr) = (all_of(child.stdout.take()), all_of(child.stderr.take()));
    let status = ended(&mut child).await;
    let status = status.unwrap_or_else(|| {
        child.kill().expect("a child can be killed");
        panic!("{command:?} did not end")
    });
    Output { status, stdout: stdout.join().expect("read"), stderr: stderr.join().expect("read") }
}

fn all_of(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    let mut pipe = pipe.expect("a pipe");
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe can be read");
        bytes
    })
}

async fn ended(child: &mut Child) -> Option<ExitStatus> {
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Some(status) = child.try_wait().expect("a child can be asked") {
            return Some(status);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

/// Asks until the answer is yes.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut asked: impl FnMut() -> F) {
    let started = Instant::now();
    while !asked().await {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

type Lines = Arc<Mutex<Vec<String>>>;

/// A server that was started as a process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) address: SocketAddr,
    child: Child,
    stdout: Lines,
    stderr: Lines,
    readers: Vec<thread::JoinHandle<()>>,
}

impl Process {
    /// Starts a server on a free port and waits until it serves.
    pub(crate) async fn start(mut command: Command) -> Self {
        command.args(["--listen", "127.0.0.1:0"]);
        Self::start_where_told(command).await
    }

    /// Starts a server on the address of its settings and waits until it serves.
    pub(crate) async fn start_where_told(mut command: Command) -> Self {
        let mut child = command.spawn().expect("the binary can be run");
        let (stdout, read) = lines_of(child.stdout.take());
        let (stderr, also_read) = lines_of(child.stderr.take());
        let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut process = Self { address: unknown, child, stdout, stderr, readers: vec![read, also_read] };
        let started = Instant::now();
        while process.address == unknown {
            let serves = process.log().iter().find_map(|line| address(line));
            process.address = serves.unwrap_or(unknown);
            let running = process.child.try_wait().expect("a child can be asked").is_none();
            let log = process.log();
            assert!(running && started.elapsed() < PATIENCE, "it does not serve; its log: {log:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        process
    }

    /// A channel to it.
    pub(crate) fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).expect("a URL").connect_lazy()
    }

    /// What it has logged up to now.
    pub(crate) fn log(&self) -> Vec<String> {
        self.stderr.lock().expect("no reader panicked").clone()
    }

    /// What it has printed up to now.
    pub(crate) fn printed(&self) -> Vec<String> {
        self.stdout.lock().expect("no reader panicked").clone()
    }

    /// Waits for a line of the log with this text, and gives it.
    pub(crate) async fn logged(&self, text: &str) -> String {
        until(&format!("the log says {text}"), async || self.log().iter().any(|line| line.contains(text))).await;
        self.log().into_iter().find(|line| line.contains(text)).expect("found before")
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal: `TERM`, `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.pid());
        let sent = Command::new("sh").args(["-c", &kill]).status().expect("sh can be run");
        assert!(sent.success(), "{kill}");
    }

    /// Waits for its end, and for its last words.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let status = ended(&mut self.child).await;
        let status = status.unwrap_or_else(|| panic!("it does not end; its log: {:#?}", self.log()));
        for reader in self.readers.drain(..) {
            reader.join().expect("no reader panicked");
        }
        status
    }

    /// Stops it as an operator does.
    pub(crate) async fn stop(&mut self) {
        self.signal("TERM");
        let status = self.ended().await;
        assert!(status.success(), "{status}; its log: {:#?}", self.log());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn lines_of(pipe: Option<impl Read + Send + 'static>) -> (Lines, thread::JoinHandle<()>) {
    let (pipe, lines) = (pipe.expect("a pipe"), Lines::default());
    let read = Arc::clone(&lines);
    let reader = thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            read.lock().expect("no reader panicked").push(line);
        }
    });
    (lines, reader)
}

/// The address in the line `serving`, in either format.
fn address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("serving address=").or_else(|| line.split_once(r#""address":""#))?;
    rest.trim_end_matches('}').split('"').next()?.trim().parse().ok()
}
