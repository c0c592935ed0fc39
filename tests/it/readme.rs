//! The README: its generated parts are what the code says, and its tour does what it shows.
//!
//! `TENANTRY_BLESS=1 cargo test --test it readme` writes the generated parts anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use clap::CommandFactory as _;
use prost_reflect::{DescriptorPool, FileDescriptor};
use tempfile::TempDir;
use tenantry::auth::permission::{self, requirement};
use tenantry::auth::policy::{RolePolicy, presets};
use tenantry::config::Cli;
use tenantry::pb::DESCRIPTOR_SET;

use crate::harness::binary::{Home, Process, finished, tenantry};
use crate::harness::{Backend, database_tests};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");

fn readme() -> String {
    fs::read_to_string(PATH).expect("README.md")
}

// === generated parts

#[test]
fn the_generated_parts_are_what_the_code_says() {
    let written = readme();
    let parts = [
        ("rpcs", rpcs()),
        ("role policies", role_policies()),
        ("errors", errors()),
        ("events", events()),
        ("settings", settings()),
    ];
    assert_eq!(written.matches("<!-- begin: ").count(), parts.len());
    let fresh = parts.iter().fold(written.clone(), |text, (name, content)| with_part(&text, name, content));
    if std::env::var_os("TENANTRY_BLESS").is_some() {
        fs::write(PATH, &fresh).expect("README.md can be written");
        return;
    }
    for (fresh, written) in fresh.lines().zip(written.lines()) {
        assert_eq!(fresh, written, "README.md is not what the code says; write it anew with TENANTRY_BLESS=1");
    }
    assert_eq!(fresh.len(), written.len(), "README.md is not what the code says; write it anew with TENANTRY_BLESS=1");
}

/// The text with what stands between the marks of a part replaced.
fn with_part(text: &str, name: &str, content: &str) -> String {
    let (begin, end) = (format!("<!-- begin: {name} -->\n"), format!("<!-- end: {name} -->"));
    let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("README.md has no part {name}"));
    let (_, after) = rest.split_once(&end).unwrap_or_else(|| panic!("the part {name} of README.md has no end"));
    format!("{before}{begin}\n{}\n\n{end}{after}", content.trim())
}

/// What the proto says above the element at a path.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let locations = &file.file_descriptor_proto().source_code_info.as_ref().expect("comments are kept").location;
    let here = locations.iter().find(|location| location.path == path).expect("the element has a location");
    here.leading_comments().lines().map(str::trim).collect::<Vec<_>>().join("\n")
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn pool() -> DescriptorPool {
    DescriptorPool::decode(DESCRIPTOR_SET).expect("a sound descriptor set")
}

fn rpcs() -> String {
    let mut text = String::new();
    for service in pool().services().filter(|service| service.full_name().starts_with("tenantry.v1.")) {
        write!(text, "\n**{}**\n\n| RPC | needs | |\n|---|---|---|\n", service.name()).expect("a string grows");
        for method in service.methods() {
            let path = format!("/{}/{}", service.full_name(), method.name());
            let needs = requirement(&path).expect("every RPC says what it needs");
            let mut ways: Vec<String> =
                needs.permission.map(|needed| format!("`{}`", permission::name(needed))).into_iter().collect();
            if let Some(others) = needs.permission_for_others {
                write!(ways[0], ", for others `{}`", permission::name(others)).expect("a string grows");
            }
            ways.extend(needs.user.then(|| "a user".to_owned()));
            ways.extend(needs.service.then(|| "a service".to_owned()));
            let told = comment(&service.parent_file(), method.path());
            let told = one_line(told.split("\n\n").next().unwrap_or_default());
            writeln!(text, "| {} | {} | {told} |", method.name(), ways.join(" or ")).expect("a string grows");
        }
    }
    text
}

fn role_policies() -> String {
    let mut text = String::new();
    for preset in presets() {
        let policy = RolePolicy::load(preset).expect("a preset loads");
        let toml = fs::read_to_string(format!("{}/src/auth/presets/{preset}.toml", env!("CARGO_MANIFEST_DIR")));
        let toml = toml.expect("the preset's file");
        let purpose = toml.lines().next().expect("a first line").trim_start_matches("# ");
        write!(text, "\n#### `{preset}`\n\n{purpose}\n\n{}", policy.table()).expect("a string grows");
    }
    text
}

/// The canonical codes that refusals have.
const CODES: [&str; 12] = [
    "INVALID_ARGUMENT",
    "UNAUTHENTICATED",
    "PERMISSION_DENIED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "RESOURCE_EXHAUSTED",
    "ABORTED",
    "UNAVAILABLE",
    "DEADLINE_EXCEEDED",
    "INTERNAL",
    "UNIMPLEMENTED",
];

fn errors() -> String {
    let mut text = String::from("| code | reason | meaning |\n|---|---|---|\n");
    let reasons = pool().get_enum_by_name("tenantry.v1.ErrorReason").expect("the enum");
    for value in reasons.values().filter(|value| value.number() != 0) {
        let told = one_line(&comment(&reasons.parent_file(), value.path()));
        let (code, meaning) = told.split_once(". ").expect("a code, then the meaning");
        assert!(CODES.contains(&code), "{code} is no code");
        let reason = value.name().trim_start_matches("ERROR_REASON_");
        writeln!(text, "| {code} | `{reason}` | {meaning} |").expect("a string grows");
    }
    text
}

/// Read from the source, which is where an event says what it is.
fn events() -> String {
    let source = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/src/event/mod.rs")).expect("the source");
    let variants =
        source.split_once("pub enum Change {").and_then(|(_, rest)| rest.split_once("\n}\n")).expect("the enum").0;
    let (mut told, mut fields, mut name) = (Vec::new(), Vec::new(), "");
    let mut text = String::from("| event | when | payload |\n|---|---|---|\n");
    for line in variants.lines() {
        let indent = line.len() - line.trim_start().len();
        match (indent, line.trim()) {
            (4, doc) if doc.starts_with("///") => told.push(doc.trim_start_matches("/// ").to_owned()),
            (4, attribute) if attribute.starts_with("#[serde(rename") => {
                name = attribute.split('"').nth(1).expect("a name");
            }
            (8, field) if !field.starts_with("///") => {
                fields.push(format!("`{}`", field.split(':').next().unwrap_or_default()));
            }
            _ => {}
        }
        if indent == 4 && line.ends_with("},") {
            writeln!(text, "| `{name}` | {} | {} |", told.join(" "), fields.join(", ")).expect("a string grows");
            told.clear();
            fields.clear();
        }
    }
    assert_eq!(text.lines().count() - 2, variants.matches("serde(rename").count(), "an event is missing");
    text
}

fn settings() -> String {
    let mut text = String::from("| variable | flag | default | meaning |\n|---|---|---|---|\n");
    for argument in Cli::command().get_arguments() {
        let Some(variable) = argument.get_env() else { continue };
        let told = argument.get_long_help().or(argument.get_help()).expect("a setting has a help text").to_string();
        let default = argument
            .get_default_values()
            .first()
            .map_or(String::new(), |value| format!("`{}`", value.to_string_lossy()));
        let values: Vec<_> =
            argument.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
        let values = if values.is_empty() { String::new() } else { format!(" {}.", values.join(" or ")) };
        let (variable, flag) = (variable.to_string_lossy(), argument.get_long().expect("a flag"));
        let told = one_line(&told);
        writeln!(text, "| `{variable}` | `--{flag}` | {default} | {}.{values} |", told.trim_end_matches('.'))
            .expect("a string grows");
    }
    text
}

// === the tour

/// A block of commands, and what the README shows of their answer.
struct Step {
    commands: String,
    shown: Option<String>,
}

/// The fenced blocks of the tour: `sh` is to paste, `json` or `text` after it is what it answers.
fn tour() -> Vec<Step> {
    let text = readme();
    let tour = text.split_once("\n## A five-minute tour\n").expect("the tour").1;
    let tour = tour.split("\n## ").next().unwrap_or_default();
    let mut steps: Vec<Step> = Vec::new();
    for block in tour.split("\n```").collect::<Vec<_>>().chunks(2).filter_map(|pair| pair.get(1)) {
        let (language, content) = block.split_once('\n').expect("a block has lines");
        match (language, steps.last_mut()) {
            ("sh", _) => steps.push(Step { commands: content.to_owned(), shown: None }),
            ("json" | "text", Some(step)) => {
                assert!(step.shown.replace(content.to_owned()).is_none(), "two answers to {}", step.commands);
            }
            _ => {}
        }
    }
    steps
}

/// Whether the lines are what is shown: a line `…` stands for any lines, and `…` in a line for any text.
fn shows(shown: &[&str], lines: &[&str]) -> bool {
    match shown {
        [] => lines.is_empty(),
        [any, rest @ ..] if any.trim() == "…" => (0..=lines.len()).any(|count| shows(rest, &lines[count..])),
        [line, rest @ ..] => lines.first().is_some_and(|found| fits(line, found)) && shows(rest, &lines[1..]),
    }
}

fn fits(shown: &str, line: &str) -> bool {
    match shown.split_once('…') {
        None => shown == line,
        Some((head, tail)) => line.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices().map(|(index, _)| index).chain([rest.len()]).any(|index| fits(tail, &rest[index..]))
        }),
    }
}

#[test]
fn what_is_shown_is_compared_with_what_was_printed() {
    let printed = ["{", "  \"a\": \"1 / 4\",", "  \"b\": 2", "}"];
    assert!(shows(&printed, &printed));
    assert!(shows(&["{", "  …", "  \"b\": 2", "}"], &printed));
    assert!(shows(&["{", "  \"a\": \"… / 4\",", "…"], &printed));
    assert!(!shows(&["{", "  \"b\": 2", "}"], &printed), "a line left out without saying so");
    assert!(!shows(&["{", "  \"a\": \"… / 5\",", "…"], &printed));
    assert!(!shows(&["{", "…", "  \"c\": 2", "}"], &printed));
    assert!(!shows(&["…", "{"], &printed));
}

/// A shell that finds the grpcurl of the tests.
fn shell(directory: &Path) -> Command {
    let program = std::env::var_os("TENANTRY_TEST_GRPCURL").filter(|program| !program.is_empty());
    let program =
        program.expect("TENANTRY_TEST_GRPCURL names no grpcurl; tests/run sets one up and runs the tests with it");
    let programs = directory.join("programs");
    fs::create_dir_all(&programs).expect("a directory");
    let link = programs.join("grpcurl");
    if !link.exists() {
        std::os::unix::fs::symlink(program, link).expect("a link");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([programs].into_iter().chain(std::env::split_paths(&path))).expect("a path");
    let mut shell = Command::new("bash");
    shell.env("PATH", path).current_dir(directory);
    shell.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    shell
}

async fn pasted(mut shell: Command, lines: &str) -> String {
    shell.args(["-c", &format!("exec 2>&1\n{lines}")]);
    String::from_utf8(finished(shell).await.stdout).expect("text")
}

database_tests! {
    async fn the_tour_does_what_it_shows(backend: Backend) {
        let home = Home::new(backend).await;
        // The defaults, as far as they go.
        let command = match backend {
            Backend::Sqlite => tenantry(home.directory.path()),
            Backend::Postgres => home.tenantry(&[]),
        };
        let mut server = Process::start(command).await;
        let steps = tour();
        assert!(steps.len() > 12, "a tour of {} steps", steps.len());
        let mark = "\n@@@ the end of a step\n";
        let script: Vec<_> = steps.iter().map(|step| format!("{}\nprintf '%s' '{mark}'\n", step.commands)).collect();
        let script = script.concat().replace("127.0.0.1:50051", &server.address.to_string());
        let printed = pasted(shell(home.directory.path()), &script).await;
        let answers: Vec<_> = printed.split(mark).collect();
        assert_eq!(answers.len(), steps.len() + 1, "{printed}");
        for (step, answer) in steps.iter().zip(answers) {
            let shown = step.shown.as_deref().unwrap_or_default().trim();
            let [shown, lines] = [shown, answer.trim()].map(|text| text.lines().collect::<Vec<_>>());
            assert!(shows(&shown, &lines), "{}\n\nanswers\n\n{answer}\n\nand the README shows\n\n{shown:#?}", step.commands);
        }
        server.stop().await;
        assert_eq!(home.directory.path().join("tenantry.db").exists(), backend == Backend::Sqlite);
        home.end().await;
    }
}

// === the lines that the binary prints

const SECRET: &str = "a secret that nobody would guess, of course";

async fn the_printed_lines_work(mut command: Command, directory: &Path, shell_has: &[(&str, &str)]) {
    command.env_remove("TENANTRY_DATABASE_URL");
    let mut server = Process::start(command).await;
    let printed = server.printed();
    let lines: Vec<_> = printed.iter().filter(|line| line.starts_with("grpcurl ")).collect();
    assert_eq!(lines.len(), 3, "{printed:#?}");
    for (line, expected) in lines.into_iter().zip(["\"name\": \"Acme\"", "\"role\": \"owner\"", "\"planId\": \"free\""])
    {
        let mut shell = shell(directory);
        shell.envs(shell_has.iter().copied());
        let answer = pasted(shell, line).await;
        assert!(answer.contains(expected), "{line}\n{answer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn the_printed_lines_work_with_headers() {
    let directory = TempDir::new().expect("a directory");
    the_printed_lines_work(tenantry(directory.path()), directory.path(), &[]).await;
}

#[tokio::test]
async fn the_printed_lines_work_with_a_secret() {
    let directory = TempDir::new().expect("a directory");
    let settings = [("TENANTRY_JWT_SECRET", SECRET), ("TENANTRY_JWT_AUDIENCE", "tenantry")];
    let mut command = tenantry(directory.path());
    command.envs(settings);
    the_printed_lines_work(command, directory.path(), &settings).await;
}

#[tokio::test]
async fn the_printed_lines_work_with_an_issuer_elsewhere() {
    use base64::Engine as _;
    let directory = TempDir::new().expect("a directory");
    let key = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(SECRET);
    let keys = format!(r#"{{"keys": [{{"kty": "oct", "alg": "HS256", "k": "{key}"}}]}}"#);
    fs::write(directory.path().join("keys.json"), keys).expect("written");
    let mut mint = tenantry(directory.path());
    mint.args(["token", "--subject", "ann", "--email", "ann@example.com", "--jwt-secret", SECRET]);
    let token = String::from_utf8(finished(mint).await.stdout).expect("text");
    let mut command = tenantry(directory.path());
    command.args(["--jwks", "keys.json"]);
    the_printed_lines_work(command, directory.path(), &[("TOKEN", token.trim())]).await;
}
