//! Where users stand, which calls that come at once ask together.

use sea_orm::ConnectionTrait as _;
use tenantry::pb::{self, Permission};
use uuid::Uuid;

use crate::harness::person::{Person, answer};
use crate::harness::race::at_once;
use crate::harness::refused::Refused;
use crate::harness::world::{World, roomy};
use crate::harness::{Backend, database_tests};

/// How many ask the same at once.
const TIMES: usize = 8;

/// The role that a user has, as the service is told.
async fn role_of(service: Person, organization_id: String, user_id: &'static str) -> String {
    let permissions = vec![Permission::MembersInvite.into()];
    let request = pb::CheckPermissionsRequest { organization_id, user_id: user_id.into(), permissions };
    answer(service.members().check_permissions(request).await).expect("checked").role
}

async fn reads(caller: Person, user_id: &'static str) -> Result<String, Refused> {
    let request = pb::GetMemberRequest { organization_id: caller.organization_id.clone(), user_id: user_id.into() };
    answer(caller.members().get_member(request).await).map(|answer| answer.member.expect("a member").role)
}

database_tests! {
    async fn those_who_ask_at_once_each_hear_of_themselves(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let (ann, bea) = (world.person("ann").founds("Acme").await, world.person("bea").founds("Bolt").await);
        let cas = ann.brings("cas", "admin").await;
        bea.brings("cas", "member").await;
        bea.brings("dee", "admin").await;
        let service = world.service("crm");
        let nowhere = Uuid::from_u128(7).to_string();
        let (acme, bolt) = (&ann.organization_id, &bea.organization_id);
        let expected = [
            (acme, "ann", "owner"), (bolt, "ann", ""), (&nowhere, "ann", ""),
            (acme, "bea", ""), (bolt, "bea", "owner"), (&nowhere, "bea", ""),
            (acme, "cas", "admin"), (bolt, "cas", "member"), (&nowhere, "cas", ""),
            (acme, "dee", ""), (bolt, "dee", "admin"), (acme, "nobody", ""),
        ];
        let calls = (0..TIMES).flat_map(|_| expected).map(|(id, user, _)| role_of(service.clone(), id.clone(), user));
        let roles = at_once(calls).await;
        for (asked, role) in (0..TIMES).flat_map(|_| expected).zip(&roles) {
            assert_eq!(asked.2, role, "{asked:?}");
        }
        // Another's membership is found with the caller's own, and is not taken for it.
        let expected = [(&ann, "cas", "admin"), (&ann, "ann", "owner"), (&cas, "ann", "owner"), (&bea, "cas", "member"), (&bea, "dee", "admin")];
        let calls = (0..TIMES).flat_map(|_| expected).map(|(caller, user, _)| reads(caller.clone(), user));
        let roles = at_once(calls).await;
        for (asked, role) in (0..TIMES).flat_map(|_| expected).zip(&roles) {
            assert_eq!(role.as_deref(), Ok(asked.2), "{}", asked.1);
        }
        assert_eq!(reads(ann.clone(), "dee").await.expect_err("of another organization").reason, "MEMBER_NOT_FOUND");
        let stranger = Person { organization_id: bolt.clone(), ..ann.acting_in(bolt, "owner") };
        assert_eq!(reads(stranger, "dee").await.expect_err("no member").reason, "NOT_A_MEMBER");
        world.end().await;
    }
}

/// Statements that wait are few, however many calls wait for them, and whoever comes later does not wait for those.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_statement_is_shared_and_holds_up_none_that_comes_after() {
    let world = World::with(Backend::Postgres, roomy()).await;
    let ann = world.person("ann").founds("Acme").await;
    ann.brings("bob", "member").await;
    let database = world.database().await;
    database.execute_unprepared("BEGIN").await.expect("begun");
    database.execute_unprepared("LOCK TABLE membership IN ACCESS EXCLUSIVE MODE").await.expect("locked");
    let calls: Vec<_> = (0..40).map(|_| tokio::spawn(reads(ann.clone(), "bob"))).collect();
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    // The first two are slow, and the others are asked for beside them.
    while world.number(waiting).await < 3 {
        tokio::task::yield_now().await;
    }
    assert!(world.number(waiting).await <= 5, "those who wait share statements");
    database.execute_unprepared("COMMIT").await.expect("committed");
    database.close().await.expect("a connection can be closed");
    for call in calls {
        assert_eq!(call.await.expect("asked").as_deref(), Ok("member"));
    }
    world.end().await;
}
