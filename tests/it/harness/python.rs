//! Servers of the tests that are Python packages.

use std::io::{BufRead as _, BufReader, Lines};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

/// A server that runs until this value is dropped or the process ends. It prints its port first.
pub(crate) struct PythonServer {
    pub(crate) port: u16,
    /// What it prints after that; taken by whoever reads it.
    pub(crate) lines: Option<Lines<BufReader<ChildStdout>>>,
    child: Child,
}

impl PythonServer {
    /// Runs a script that finds a package, of which this file is a part, with these settings.
    pub(crate) fn start(script: &str, name: &str, file: &str, settings: &[(&str, String)]) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", script])
            .env("PYTHONPATH", package(name, file))
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 can be run");
        let mut lines = BufReader::new(child.stdout.take().expect("its stdout is a pipe")).lines();
        let port = lines.next().and_then(Result::ok).and_then(|line| line.trim().parse().ok());
        let port = port.unwrap_or_else(|| panic!("{name} did not start; what it says is in this output"));
        Self { port, lines: Some(lines), child }
    }
}

impl Drop for PythonServer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Where a Python package is.
#[expect(clippy::disallowed_methods, reason = "what the tests are told is no setting of the service")]
fn package(name: &str, file: &str) -> PathBuf {
    let variable = format!("TENANTRY_TEST_{}", name.to_ascii_uppercase());
    let told = std::env::var(&variable).ok().filter(|told| !told.is_empty());
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools");
    let package = told.map_or_else(|| PathBuf::from(tools).join(name), PathBuf::from);
    assert!(
        package.join(file).is_file(),
        "no {name} in {}: run tests/run, which installs one, or set {variable} to the directory that has the Python package",
        package.display()
    );
    package
}
