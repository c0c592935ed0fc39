//! Backup and restore of an SQLite file, beside a server that serves it.

use std::process::Command;

use crate::harness::Backend;
use crate::harness::binary::{Home, Process, finished};
use crate::harness::person::Person;

fn command(home: &Home, arguments: &[&str]) -> Command {
    home.tenantry(arguments)
}

/// Runs it, and gives what it says of its failure.
async fn fails(home: &Home, arguments: &[&str]) -> String {
    let output = finished(command(home, arguments)).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{arguments:?} was done");
    assert!(said.starts_with("tenantry: ") && said.lines().count() == 1, "{arguments:?}: {said}");
    said
}

async fn works(home: &Home, arguments: &[&str]) -> String {
    let output = finished(command(home, arguments)).await;
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_the_database_of_one_instant_while_changes_go_on() {
    let home = Home::new(Backend::Sqlite).await;
    let mut server = Process::start(home.tenantry(&[])).await;
    let ann = Person::new(server.channel(), "ann").founds("Acme").await;
    ann.invites(&["bob@example.com"], "member").await;
    let busy = tokio::spawn({
        let channel = server.channel();
        async move {
            for number in 0.. {
                Person::new(channel.clone(), &format!("p{number}")).founds("Busy").await;
            }
        }
    });
    assert!(works(&home, &["backup", "one.db"]).await.contains("one.db: "));
    works(&home, &["backup", "two.db"]).await;
    assert!(fails(&home, &["backup", "one.db"]).await.contains("one.db is there already"));
    busy.abort();
    ann.invites(&["cat@example.com"], "member").await;
    let refused = fails(&home, &["restore", "one.db", "--replace"]).await;
    assert!(refused.contains("in use by another process"), "{refused}");
    server.stop().await;

    let refused = fails(&home, &["restore", "one.db"]).await;
    assert!(refused.contains("--replace"), "{refused}");
    let said = works(&home, &["restore", "one.db", "--replace"]).await;
    assert!(said.contains("what was there is tenantry.db.replaced-1"), "{said}");
    let mut server = Process::start(home.tenantry(&[])).await;
    let ann = Person::new(server.channel(), "ann").acting_in(&ann.organization_id, "owner");
    assert_eq!(ann.seats().await, "2 / 4 seats", "what came after the backup is gone");
    ann.invites(&["dan@example.com"], "member").await;
    server.stop().await;

    // What was there before is whole, and can come back.
    works(&home, &["restore", "tenantry.db.replaced-1", "--replace"]).await;
    let mut server = Process::start(home.tenantry(&[])).await;
    let ann = Person::new(server.channel(), "ann").acting_in(&ann.organization_id, "owner");
    assert_eq!(ann.seats().await, "3 / 4 seats");
    server.stop().await;
    // What was written beside a database that is gone is nothing of the one that comes in its place.
    let path = |name: &str| home.directory.path().join(name);
    std::fs::remove_file(path("tenantry.db")).expect("gone");
    std::fs::write(path("tenantry.db-wal"), b"of another database").expect("a file");
    works(&home, &["restore", "two.db"]).await;
    assert!(!path("tenantry.db-wal").exists(), "SQLite would write it into the backup");
    let mut server = Process::start(home.tenantry(&[])).await;
    assert_eq!(
        Person::new(server.channel(), "ann").acting_in(&ann.organization_id, "owner").seats().await,
        "2 / 4 seats"
    );
    server.stop().await;
    let files =
        std::fs::read_dir(home.directory.path()).expect("a directory").map(|file| file.expect("a file").file_name());
    let partial: Vec<_> = files.filter(|name| name.to_string_lossy().contains("partial")).collect();
    assert!(partial.is_empty(), "{partial:?}");
    home.end().await;
}

#[tokio::test]
async fn what_is_no_sound_backup_is_not_restored_and_changes_nothing() {
    let home = Home::new(Backend::Sqlite).await;
    let mut server = Process::start(home.tenantry(&[])).await;
    let ann = Person::new(server.channel(), "ann").founds("Acme").await;
    server.stop().await;
    works(&home, &["backup", "sound.db"]).await;
    let path = |name: &str| home.directory.path().join(name);
    let sound = std::fs::read(path("sound.db")).expect("a file");
    let mut torn = sound.clone();
    torn[8192..16384].fill(0xa5);
    for (name, bytes, says) in [
        ("empty.db", &b""[..], "no database of this service"),
        (
            "text.db",
            b"this is not a database, and longer than a header of one would have to be to be taken for it, by far",
            "not a database",
        ),
        ("half.db", &sound[..sound.len() / 2], "not a sound backup"),
        ("torn.db", &torn, "not a sound backup"),
    ] {
        std::fs::write(path(name), bytes).expect("a file");
        let said = fails(&home, &["restore", name, "--replace"]).await;
        assert!(said.contains(name) && said.contains(says), "{name}: {said}");
    }
    assert!(fails(&home, &["restore", "nothing.db", "--replace"]).await.contains("there is no file nothing.db"));
    assert!(fails(&home, &["backup", "no/such/folder.db"]).await.contains("folder.db"));
    let elsewhere = ["--database-url", "sqlite:nowhere.db"];
    assert!(
        fails(&home, &["backup", "x.db", elsewhere[0], elsewhere[1]]).await.contains("there is no file nowhere.db")
    );
    let postgres = ["--database-url", "postgres://a:hunter2@localhost/c"];
    let said = fails(&home, &["backup", "x.db", postgres[0], postgres[1]]).await;
    assert!(said.contains("pg_basebackup") && !said.contains("hunter2"), "{said}");
    let mut server = Process::start(home.tenantry(&[])).await;
    assert_eq!(
        Person::new(server.channel(), "ann").acting_in(&ann.organization_id, "owner").seats().await,
        "1 / 4 seats"
    );
    server.stop().await;
    home.end().await;
}
