//! When a statement fails in the middle of a change: it is tried again where that may help, nothing is half done, and
//! nobody is told of the inside.

use sea_orm::ConnectionTrait as _;
use tonic::Code;

use crate::harness::world::World;
use crate::harness::{Backend, database_tests};

/// Lets the database refuse to write events: the last thing but one of every change.
async fn refuse_events(world: &World, how: &str) {
    let database = world.database().await;
    database.execute_unprepared(how).await.expect("the trigger can be made");
    database.close().await.expect("a connection can be closed");
}

/// PostgreSQL: the first inserts of an event lose, as against another transaction. A sequence counts them, since it is
/// not rolled back.
fn lose(times: u32) -> String {
    format!(
        "CREATE SEQUENCE attempts; \
         CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF nextval('attempts') <= {times} THEN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END IF; \
         RETURN NEW; END $$; \
         CREATE TRIGGER lose BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION lose()"
    )
}

// PostgreSQL only: on SQLite there is one writer, who cannot lose.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_loses_is_begun_again_and_nobody_notices() {
    let world = World::new(Backend::Postgres).await;
    let ann = world.person("ann").founds("Acme").await;
    refuse_events(&world, &lose(4)).await;
    let sent = ann.invites(&["bob@example.com"], "member").await;
    assert_eq!(world.number("SELECT last_value FROM attempts").await, 5);
    assert_eq!(ann.seats().await, "2 / 4 seats");
    world.person("bob").accepts(&sent[0].token).await;
    world.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_loses_again_and_again_is_given_up_with_nothing_done() {
    let world = World::new(Backend::Postgres).await;
    let ann = world.person("ann").founds("Acme").await;
    let events = world.events(&ann.organization_id).await;
    refuse_events(&world, &lose(5)).await;
    let refused = ann.tries_to_invite(&["bob@example.com"], "member").await.unwrap_err();
    assert_eq!(refused.is(), (Code::Aborted, "CONFLICT"));
    assert!(refused.retry, "the client may try again, and hears when");
    assert_eq!(world.events(&ann.organization_id).await, events);
    assert_eq!(ann.seats().await, "1 / 4 seats");
    ann.tries_to_invite(&["bob@example.com"], "member").await.expect("this time it does not lose");
    world.end().await;
}

database_tests! {
    async fn a_defect_leaves_nothing_half_done_and_tells_nothing_of_the_inside(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.brings("bob", "member").await;
        let events = world.events(&ann.organization_id).await;
        refuse_events(
            &world,
            match backend {
                Backend::Sqlite => {
                    "CREATE TRIGGER lose BEFORE INSERT ON event BEGIN SELECT RAISE(ABORT, 'a secret table'); END"
                }
                Backend::Postgres => {
                    "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                     RAISE EXCEPTION 'a secret table'; END $$; \
                     CREATE TRIGGER lose BEFORE INSERT ON event FOR EACH ROW EXECUTE FUNCTION lose()"
                }
            },
        )
        .await;
        for refused in [
            ann.tries_to_invite(&["cas@example.com"], "member").await.unwrap_err(),
            ann.tries_to_change_role("bob", "admin").await.unwrap_err(),
            ann.tries_to_remove("bob").await.unwrap_err(),
            bob.tries_to_leave().await.unwrap_err(),
        ] {
            assert_eq!(refused.is(), (Code::Internal, "INTERNAL"));
            assert!(!refused.message.contains("secret"), "{}", refused.message);
            assert!(refused.metadata.is_empty() && !refused.retry, "{refused:?}");
        }
        assert_eq!(world.events(&ann.organization_id).await, events);
        assert_eq!(ann.seats().await, "2 / 4 seats");
        assert_eq!(world.number("SELECT count(*) FROM membership WHERE role = 'member'").await, 1, "bob, as he was");
        world.end().await;
    }
}
