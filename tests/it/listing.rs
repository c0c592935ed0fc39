//! The list of members: its orders, pages, search and filters.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use tenantry::pb::{self, ListMembersRequest, MemberState};
use tonic::Code;

use crate::harness::person::{Person, answer, by_token};
use crate::harness::world::{Setup, World, plans_with_seats};
use crate::harness::{Backend, database_tests};

const ALL_STATES: [MemberState; 3] = [MemberState::Active, MemberState::Suspended, MemberState::Pending];
const ORDERS: [&str; 4] = ["join_time", "display_name", "email", "last_sign_in_time"];

fn roomy() -> Setup {
    Setup { plans: Some(plans_with_seats(300)), ..Setup::default() }
}

fn request(order_by: &str, states: &[MemberState]) -> ListMembersRequest {
    let states = states.iter().map(|state| i32::from(*state)).collect();
    ListMembersRequest { order_by: order_by.into(), states, ..Default::default() }
}

/// Who stands in a list: the user or, while pending, the address.
fn who(member: &pb::Member) -> String {
    if member.user_id.is_empty() { member.email.clone() } else { member.user_id.clone() }
}

/// The people of one page.
async fn people(lists: &Person, request: &ListMembersRequest) -> Vec<String> {
    lists.tries_to_list(request).await.expect("listed").members.iter().map(who).collect()
}

/// All pages of a size, one after the other.
async fn pages(lists: &Person, request: &ListMembersRequest, size: usize) -> Vec<Vec<String>> {
    let mut request = ListMembersRequest { page_size: i32::try_from(size).expect("a size"), ..request.clone() };
    let mut pages = Vec::new();
    loop {
        let page = lists.tries_to_list(&request).await.expect("listed");
        assert!(!page.members.is_empty() || pages.is_empty(), "an empty page after others");
        assert!(page.members.len() == size || page.next_page_token.is_empty(), "a short page that is not the last");
        pages.push(page.members.iter().map(who).collect());
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return pages;
        }
    }
}

/// Accepts with a name.
async fn joins(guest: &Person, token: &str, display_name: &str) {
    let profile = pb::UserProfile { display_name: display_name.into(), ..Default::default() };
    let request =
        pb::AcceptInvitationRequest { invitation: Some(by_token(token)), profile: Some(profile), ..Default::default() };
    answer(guest.members().accept_invitation(request).await).expect("accepted");
}

/// What a service says of a user who signs in now.
fn signs_in(organization_id: &str, user_id: &str) -> pb::RecordSignInRequest {
    pb::RecordSignInRequest { organization_id: organization_id.into(), user_id: user_id.into(), ..Default::default() }
}

/// Somebody of the crowd, as the test itself knows them.
#[derive(Clone, Debug)]
struct Face {
    /// The user, or the address while pending.
    who: String,
    /// What equal ones are told apart by: members by their user id, then those who are expected by their invitation's.
    tie: (bool, String),
    joined: DateTime<Utc>,
    name: &'static str,
    email: String,
    signed_in: DateTime<Utc>,
    state: MemberState,
    role: &'static str,
}

/// Numbers that look random and are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % sides
    }
}

/// Names as people write them, with the form by which they are sorted.
const NAMES: [(&str, &str); 8] = [
    ("", ""),
    ("Zo\u{eb} \u{c5}ngstr\u{f6}m", "zoe angstrom"),
    ("zoe  ANGSTROM", "zoe angstrom"),
    ("bob", "bob"),
    ("Bob", "bob"),
    ("\u{d6}zil", "ozil"),
    ("person-7@example.com", "person-7@example.com"),
    ("\u{65e5}\u{672c}", "\u{65e5}\u{672c}"),
];

/// Fills the organization with members of all sorts, many of them alike, and with some who are expected.
async fn crowd(world: &World, ann: &Person, dice: &mut Dice) -> Vec<Face> {
    let login = world.service("login");
    let founded = world.clock.now();
    let mut faces = vec![Face {
        who: "ann".into(),
        tie: (false, "ann".into()),
        joined: founded,
        name: "",
        email: "ann@example.com".into(),
        signed_in: DateTime::UNIX_EPOCH,
        state: MemberState::Active,
        role: "owner",
    }];
    for number in 0..20 {
        // Two in three come at the same instant as the one before.
        if dice.roll(3) == 0 {
            world.pass(TimeDelta::microseconds([1, 500_000, 1_000_000, 60_000_001][dice.roll(4)]));
        }
        let user = format!("person-{number}");
        let email = format!("{user}@example.com");
        let role = ["admin", "member", "member"][dice.roll(3)];
        let invited = ann.invites(&[&email], role).await.remove(0);
        let mut face = Face {
            who: email.clone(),
            tie: (true, invited.invitation.expect("one").invitation_id),
            joined: world.clock.now(),
            name: "",
            email,
            signed_in: DateTime::UNIX_EPOCH,
            state: MemberState::Pending,
            role,
        };
        if dice.roll(3) > 0 {
            let (written, folded) = NAMES[dice.roll(NAMES.len())];
            joins(&world.person(&user), &invited.token, written).await;
            face = Face {
                who: user.clone(),
                tie: (false, user.clone()),
                name: folded,
                state: MemberState::Active,
                ..face
            };
            if dice.roll(2) == 0 {
                login.tries_to_record(signs_in(&ann.organization_id, &user)).await.expect("recorded");
                face.signed_in = world.clock.now();
            }
            if dice.roll(4) == 0 {
                ann.tries_to_suspend(&user).await.expect("suspended");
                face.state = MemberState::Suspended;
            }
        }
        faces.push(face);
    }
    faces
}

/// The crowd in an order, sorted by the test.
fn sorted(faces: &[Face], order_by: &str, descending: bool) -> Vec<String> {
    let mut faces: Vec<&Face> = faces.iter().collect();
    // Who is expected has no name yet, and stands among the names under the address.
    let name = |face: &Face| if face.tie.0 { face.email.clone() } else { face.name.to_owned() };
    faces.sort_by(|one, other| {
        let by_key = match order_by {
            "join_time" => one.joined.cmp(&other.joined),
            "display_name" => name(one).cmp(&name(other)),
            "email" => one.email.cmp(&other.email),
            "last_sign_in_time" => one.signed_in.cmp(&other.signed_in),
            other => panic!("no order: {other}"),
        };
        by_key.then_with(|| one.tie.cmp(&other.tie))
    });
    if descending {
        faces.reverse();
    }
    faces.into_iter().map(|face| face.who.clone()).collect()
}

database_tests! {
    async fn in_every_order_pages_of_any_size_are_the_sorted_whole(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        // Another organization with its own people, who are in nobody else's list.
        let zed = world.person("zed").founds("Zeta").await;
        zed.invites(&["bob@example.com"], "member").await;
        let mut dice = Dice(0x7E2A_2717);
        let faces = crowd(&world, &ann, &mut dice).await;
        let count = |state| faces.iter().filter(|face| face.state == state).count();
        assert!(ALL_STATES.iter().all(|state| count(*state) >= 3), "a crowd that tests nothing");
        let members: Vec<Face> = faces.iter().filter(|face| face.state != MemberState::Pending).cloned().collect();
        for order in ORDERS {
            for (word, descending) in [("", false), (" desc", true)] {
                let everybody = request(&format!("{order}{word}"), &ALL_STATES);
                let expected = sorted(&faces, order, descending);
                let smallest = if order == "display_name" { 1 } else { 4 };
                for size in [smallest, 9, expected.len()] {
                    let pages = pages(&ann, &everybody, size).await;
                    assert_eq!(pages.len(), expected.len().div_ceil(size));
                    assert_eq!(pages.concat(), expected, "{order}{word} in pages of {size}");
                }
                let request = request(&format!("{order}{word}"), &[]);
                let expected = sorted(&members, order, descending);
                assert_eq!(pages(&ann, &request, 7).await.concat(), expected, "{order}{word}, without the expected");
            }
        }
        // Unless said otherwise, by the time of joining.
        assert_eq!(people(&ann, &request("", &[])).await, sorted(&members, "join_time", false));
        assert_eq!(people(&ann, &request("email asc", &[])).await, sorted(&members, "email", false));
        world.end().await;
    }

    async fn filters_by_role_and_state_and_search_hold_on_every_page(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let mut dice = Dice(0xA11CE);
        let faces = crowd(&world, &ann, &mut dice).await;
        let states = [&[][..], &ALL_STATES[..1], &ALL_STATES[1..2], &ALL_STATES[2..], &ALL_STATES[1..], &ALL_STATES];
        let roles = [&[][..], &["admin"], &["member"], &["owner", "member", "owner"]];
        for states in states {
            for roles in roles {
                for search in ["", ["ANGSTROM", "person-1", "example", "bob"][dice.roll(4)]] {
                    let shown: Vec<Face> = faces
                        .iter()
                        .filter(|face| match states {
                            [] => face.state != MemberState::Pending,
                            states => states.contains(&face.state),
                        })
                        .filter(|face| roles.is_empty() || roles.contains(&face.role))
                        .filter(|face| {
                            [face.name, &face.email].iter().any(|text| text.contains(&search.to_lowercase()))
                        })
                        .cloned()
                        .collect();
                    let order = ORDERS[dice.roll(4)];
                    let descending = dice.roll(2) == 0;
                    let request = ListMembersRequest {
                        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
                        search: search.into(),
                        ..request(&format!("{order}{}", if descending { " desc" } else { "" }), states)
                    };
                    let listed = pages(&ann, &request, 2 + dice.roll(5)).await.concat();
                    assert_eq!(listed, sorted(&shown, order, descending), "{request:?}");
                }
            }
        }
        world.end().await;
    }

    async fn who_stays_is_seen_once_while_others_come_and_go_between_the_pages(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let mut dice = Dice(0x5EED);
        for (round, order) in ORDERS.iter().flat_map(|order| [order.to_string(), format!("{order} desc")]).enumerate() {
            let names: Vec<String> = (0..8).map(|number| format!("r{round}-{}-{number}", dice.roll(90))).collect();
            let emails: Vec<String> = names.iter().map(|name| format!("{name}@example.com")).collect();
            let invited = ann.invites(&emails.iter().map(String::as_str).collect::<Vec<_>>(), "member").await;
            for (name, invited) in names.iter().zip(&invited).take(6) {
                joins(&world.person(name), &invited.token, NAMES[dice.roll(NAMES.len())].0).await;
            }
            let mut staying: HashSet<String> = people(&ann, &request("", &ALL_STATES)).await.into_iter().collect();
            let mut leaving: Vec<&String> = names[..3].iter().collect();
            let mut request = ListMembersRequest { page_size: 2, ..request(&order, &ALL_STATES) };
            let mut seen = Vec::new();
            for turn in 0.. {
                let page = ann.tries_to_list(&request).await.expect("listed");
                seen.extend(page.members.iter().map(who));
                request.page_token = page.next_page_token;
                if request.page_token.is_empty() {
                    break;
                }
                // Somebody goes, seen or not, perhaps the very one at whom the page ended; and somebody comes.
                if let Some(name) = leaving.pop() {
                    ann.tries_to_remove(name).await.expect("removed");
                    staying.remove(name);
                    world.pass(TimeDelta::milliseconds(1));
                    ann.invites(&[&format!("new-{round}-{turn}@example.com")], "member").await;
                    let new = ann.invites(&[&format!("{turn}-new-{round}@example.com")], "member").await.remove(0);
                    joins(&world.person(&format!("{turn}-new-{round}")), &new.token, NAMES[dice.roll(8)].0).await;
                }
            }
            let distinct: HashSet<String> = seen.iter().cloned().collect();
            assert_eq!(distinct.len(), seen.len(), "{order}: somebody was seen twice");
            let missed: Vec<&String> = staying.difference(&distinct).collect();
            assert!(missed.is_empty(), "{order}: {missed:?} stayed and were not seen");
            // The next round begins with few, so that there are few pages.
            let rest = people(&ann, &ListMembersRequest { page_size: 200, ..self::request("", &[]) }).await;
            let rest: Vec<&str> = rest.iter().map(String::as_str).filter(|name| *name != "ann").collect();
            ann.tries_to_remove_all(&rest).await.expect("removed");
            world.pass(TimeDelta::days(7));
        }
        world.end().await;
    }

    async fn an_invitation_that_is_accepted_between_the_pages_is_missed_by_neither_side(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let bob = ann.invites(&["bob@example.com"], "member").await.remove(0);
        let mut request = ListMembersRequest { page_size: 1, ..request("email", &ALL_STATES) };
        let first = ann.tries_to_list(&request).await.expect("listed");
        assert_eq!(who(&first.members[0]), "ann");
        joins(&world.person("bob"), &bob.token, "Bob").await;
        request.page_token = first.next_page_token;
        assert_eq!(people(&ann, &request).await, ["bob"]);
        world.end().await;
    }

    async fn people_are_found_by_any_part_of_name_or_address_in_any_case_and_accent(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let emails = ["lee@example.com", "bob@example.com", "zoe@example.com"];
        let invited = ann.invites(&emails, "member").await;
        let names = ["Ann Lee", "B\u{f4}b_100% Smith", "Zo\u{eb} \u{c5}ngstr\u{f6}m"];
        for ((user, name), invited) in ["lee", "bob", "zoe"].iter().zip(names).zip(&invited) {
            joins(&world.person(user), &invited.token, name).await;
        }
        let email = "Ren\u{e9}e@B\u{fc}cher.example".into();
        let renamed = pb::RecordSignInRequest { email, ..signs_in(&ann.organization_id, "zoe") };
        world.service("login").tries_to_record(renamed).await.expect("recorded");
        ann.invites(&["P\u{e9}ter%1@example.com", "mail_box@example.com", "mailxbox@B\u{fc}cher.example"], "member")
            .await;
        let [peter, mail_box, bucher] =
            ["P\u{e9}ter%1@example.com", "mail_box@example.com", "mailxbox@B\u{fc}cher.example"];
        let found: [(&str, &[&str]); 31] = [
            ("lee", &["lee"]),
            ("  LEE ", &["lee"]),
            ("n l", &["lee"]),
            ("n  l", &["lee"]),
            ("ann", &["ann", "lee"]),
            ("LEE@EXAMPLE", &["lee"]),
            ("bob", &["bob"]),
            ("b\u{f4}B_", &["bob"]),
            ("zoe", &["zoe"]),
            ("zo\u{eb}", &["zoe"]),
            ("ZOE\u{308}", &["zoe"]),
            ("angstrom", &["zoe"]),
            ("\u{c5}NGSTR\u{d6}M", &["zoe"]),
            ("renee", &["zoe"]),
            ("ren\u{e9}e@b\u{fc}", &["zoe"]),
            ("b\u{fc}cher", &[bucher, "zoe"]),
            ("xn--bcher", &[bucher, "zoe"]),
            ("peter", &[peter]),
            ("P\u{c9}TER", &[peter]),
            ("%", &["bob", peter]),
            ("r%1", &[peter]),
            ("p%1", &[]),
            ("100%", &["bob"]),
            ("_", &["bob", mail_box]),
            ("mail_box", &[mail_box]),
            ("mail", &[mail_box, bucher]),
            ("\\", &[]),
            ("'", &[]),
            ("*", &[]),
            // The end of the name and the beginning of the address are not one text.
            ("smith bob", &[]),
            ("smithbob", &[]),
        ];
        for (search, expected) in found {
            let request = ListMembersRequest { search: search.into(), ..request("", &ALL_STATES) };
            let mut listed = people(&ann, &request).await;
            listed.sort();
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            assert_eq!(listed, expected, "{search:?}");
        }
        for search in ["x".repeat(101), "a\0b".into(), "a\u{202e}b".into()] {
            let refused =
                ann.tries_to_list(&ListMembersRequest { search, ..Default::default() }).await.expect_err("no text");
            assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
            assert_eq!(refused.fields, ["search"]);
        }
        let longest = ListMembersRequest { search: "\u{eb}".repeat(100), ..Default::default() };
        assert_eq!(people(&ann, &longest).await, Vec::<String>::new());
        world.end().await;
    }

    async fn those_who_are_expected_are_shown_as_such_until_they_come_or_their_time_is_over(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let sent = ann.invites(&["Bob@Example.com"], "admin").await.remove(0);
        let pending = request("", &[MemberState::Pending]);
        let shown = ann.tries_to_list(&pending).await.expect("listed").members;
        let expected = pb::Member {
            organization_id: ann.organization_id.clone(),
            email: "Bob@Example.com".into(),
            role: "admin".into(),
            state: MemberState::Pending.into(),
            invitation_id: sent.invitation.expect("one").invitation_id,
            ..Default::default()
        };
        assert_eq!(shown, [expected]);
        assert_eq!(people(&ann, &request("", &[])).await, ["ann"], "only when asked for");
        world.pass(TimeDelta::days(7) - TimeDelta::microseconds(1));
        assert_eq!(people(&ann, &pending).await, ["Bob@Example.com"]);
        world.pass(TimeDelta::microseconds(1));
        assert_eq!(people(&ann, &pending).await, Vec::<String>::new());
        world.end().await;
    }

    async fn a_page_has_fifty_people_unless_said_otherwise_and_never_more_than_two_hundred(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        let emails: Vec<String> = (0..250).map(|number| format!("{number:03}@example.com")).collect();
        ann.invites(&emails.iter().map(String::as_str).collect::<Vec<_>>(), "member").await;
        let everybody = request("email", &ALL_STATES);
        let mut expected = emails;
        expected.push("ann".into());
        for (asked, size) in [(0, 50), (1, 1), (200, 200), (201, 200), (1_000_000, 200), (i32::MAX, 200)] {
            let request = ListMembersRequest { page_size: asked, ..everybody.clone() };
            assert_eq!(people(&ann, &request).await, expected[..size], "{asked}");
        }
        assert_eq!(pages(&ann, &everybody, 100).await.concat(), expected);
        for page_size in [-1, i32::MIN] {
            let refused = ann
                .tries_to_list(&ListMembersRequest { page_size, ..everybody.clone() })
                .await
                .expect_err("less than none");
            assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"));
            assert_eq!(refused.fields, ["page_size"]);
        }
        world.end().await;
    }

    async fn a_page_token_is_of_its_own_list_and_whole(backend: Backend) {
        let world = World::with(backend, roomy()).await;
        let ann = world.person("ann").founds("Acme").await;
        world.pass(TimeDelta::microseconds(1));
        let ada = ann.brings("ada", "admin").await;
        for name in ["bob", "cas"] {
            ann.brings(name, "member").await;
        }
        let zed = world.person("zed").founds("Zeta").await;
        zed.brings("yan", "member").await;
        let list = ListMembersRequest { page_size: 1, ..Default::default() };
        let token = ann.tries_to_list(&list).await.expect("listed").next_page_token;
        let next = ListMembersRequest { page_token: token.clone(), ..list.clone() };
        assert_eq!(people(&ann, &next).await, ["ada"]);
        assert_eq!(
            people(&ada, &ListMembersRequest { page_size: 9, ..next.clone() }).await,
            ["ada", "bob", "cas"],
            "by anybody, in any size"
        );
        assert_eq!(
            people(&ann, &ListMembersRequest { order_by: "join_time asc".into(), ..next.clone() }).await,
            ["ada"],
            "the same order"
        );

        let invalid = (Code::InvalidArgument, "PAGE_TOKEN_INVALID");
        assert_eq!(zed.tries_to_list(&next).await.expect_err("another organization's").is(), invalid);
        let others = [
            ListMembersRequest { order_by: "join_time desc".into(), ..next.clone() },
            ListMembersRequest { order_by: "email".into(), ..next.clone() },
            ListMembersRequest { search: "a".into(), ..next.clone() },
            ListMembersRequest { roles: vec!["member".into()], ..next.clone() },
            ListMembersRequest { states: vec![1], ..next.clone() },
            ListMembersRequest { states: vec![1, 2, 3], ..next.clone() },
        ];
        for other in others {
            assert_eq!(ann.tries_to_list(&other).await.expect_err("another list's").is(), invalid, "{other:?}");
        }
        let invitations = pb::ListInvitationsRequest {
            organization_id: ann.organization_id.clone(),
            page_size: 1,
            ..Default::default()
        };
        let foreign =
            answer(ann.members().list_invitations(invitations.clone()).await).expect("listed").next_page_token;
        let refused = ann.tries_to_list(&ListMembersRequest { page_token: foreign, ..list.clone() }).await;
        assert_eq!(refused.expect_err("of invitations").is(), invalid);
        let request = pb::ListInvitationsRequest { page_token: token.clone(), ..invitations };
        let refused = answer(ann.members().list_invitations(request).await);
        assert_eq!(refused.expect_err("of members").is(), invalid);

        let mut tampered: Vec<String> = ["x", "====", "\u{1f980}", " "].map(str::to_owned).into();
        tampered.extend([
            token[1..].to_owned(),
            token[..token.len() - 1].to_owned(),
            format!("{token}A"),
            "A".repeat(50_000),
        ]);
        for place in [0, 10, 25, 40, token.len() - 2] {
            let mut bytes = token.clone().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            tampered.push(String::from_utf8(bytes).expect("still text"));
        }
        for page_token in tampered {
            let refused =
                ann.tries_to_list(&ListMembersRequest { page_token: page_token.clone(), ..list.clone() }).await;
            let refused = refused.expect_err("not a token that this service made");
            assert_eq!(refused.is(), invalid, "{page_token:?}");
            assert_eq!(refused.fields, ["page_token"]);
        }
        // Whoever is removed gets no further page.
        ann.tries_to_remove("ada").await.expect("removed");
        let refused = ada.tries_to_list(&next).await.expect_err("removed");
        assert_eq!(refused.is(), (Code::PermissionDenied, "NOT_A_MEMBER"));
        world.end().await;
    }

    async fn a_list_is_refused_for_orders_roles_and_states_that_there_are_not(backend: Backend) {
        let world = World::new(backend).await;
        let ann = world.person("ann").founds("Acme").await;
        for order_by in ["name", "email desc desc", "email DESC", "desc", "email, join_time", "email;", "user_id"] {
            let refused = ann.tries_to_list(&request(order_by, &[])).await.expect_err("no such order");
            assert_eq!(refused.is(), (Code::InvalidArgument, "INVALID_FIELDS"), "{order_by}");
            assert_eq!(refused.fields, ["order_by"]);
        }
        let wrong = ListMembersRequest {
            page_size: -1,
            order_by: "shoe_size".into(),
            search: "\n\0".into(),
            roles: vec!["member".into(), "e".repeat(41)],
            states: vec![1, 0, 99],
            ..Default::default()
        };
        let refused = ann.tries_to_list(&wrong).await.expect_err("much is wrong");
        let mut fields = refused.fields;
        fields.sort();
        assert_eq!(fields, ["order_by", "page_size", "roles[1]", "search", "states[1]", "states[2]"]);
        let bob = ann.brings("bob", "member").await;
        let refused = bob.tries_to_list(&wrong).await.expect_err("who may not hears only that");
        assert_eq!(refused.is(), (Code::PermissionDenied, "ROLE_LACKS_PERMISSION"));
        world.end().await;
    }
}
