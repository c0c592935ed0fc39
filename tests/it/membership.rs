//! Members and their roles.

use tonic::Code;

use crate::harness::world::World;
use crate::harness::{Backend, database_tests};

database_tests! {
    async fn the_fifth_of_four_seats_is_refused(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        assert_eq!(ann.seats().await, "1 / 4 seats");
        let sent = ann.invites(&["bob@example.com", "cas@example.com", "dee@example.com"], "member").await;
        assert_eq!(ann.seats().await, "4 / 4 seats");
        let refused = ann.tries_to_invite(&["eve@example.com"], "member").await.unwrap_err();
        assert_eq!(refused.is(), (Code::FailedPrecondition, "SEAT_LIMIT_REACHED"));
        let bob = world.person("bob").accepts(&sent[0].token).await;
        assert_eq!(bob.role, "member");
        assert_eq!(ann.seats().await, "4 / 4 seats");
        world.end().await;
    }
}
