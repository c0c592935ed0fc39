//! What a line is read as.

use proptest::prelude::*;

use super::*;
use crate::fields::parse_uuid;

const ID: &str = "0193a9c5-8a6e-7c3b-9f5e-2b1d0c4e6f70";

fn faults(line: &str) -> Vec<String> {
    let faulty = read(line).unwrap_err();
    faulty.violations.iter().map(|fault| format!("{}: {}", fault.field, fault.description)).collect()
}

#[test]
fn every_fault_of_a_line_is_told_at_once() {
    let told = faults(&format!(
        r#"{{"kind":"member","organization_id":"{ID}","user_id":" a","emial":"a@x.com","role":7,"email":"x","role":"b","join_time":"monday","workspace_ids":["1",2]}}"#
    ));
    for part in ["role: stands twice", "email: must have an @", "user_id: has white", "role: must be a text"] {
        assert!(told.iter().any(|fault| fault.contains(part)), "{part}: {told:?}");
    }
    for part in ["join_time:", "workspace_ids[0]:", "workspace_ids[1]:", "emial: is not a key"] {
        assert!(told.iter().any(|fault| fault.contains(part)), "{part}: {told:?}");
    }
    assert_eq!(told.len(), 8, "{told:?}");
}

#[test]
fn a_key_within_an_object_is_read_as_strictly() {
    let told = faults(&format!(
        r#"{{"kind":"room","organization_id":"{ID}","workspace_id":"{ID}","name":"R","slug":"r1-","room_settings":{{"lobby":1,"loby":true}}}}"#
    ));
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told.iter().any(|fault| fault.starts_with("room_settings.loby: is not a key")), "{told:?}");
}

#[test]
fn a_faulty_line_still_says_what_it_is_about() {
    let faulty = read(&format!(r#"{{"kind":"organization","organization_id":"{ID}","name":""}}"#)).unwrap_err();
    assert_eq!((faulty.organization_id, faulty.names), (parse_uuid(ID), Some(Named::Organization)));
}

fn times() -> impl Strategy<Value = Option<DateTime<Utc>>> {
    prop::option::of((1..4_000_000_000_000_000_i64).prop_filter_map("a time", DateTime::from_timestamp_micros))
}

fn members() -> impl Strategy<Value = Line> {
    let texts = ("[a-z|0-9ä]{1,20}", "[a-z]{1,8}@[a-z]{1,8}\\.com", "\\PC{0,30}");
    (texts, times(), times(), any::<Option<u128>>(), prop::collection::btree_set(any::<u128>(), 0..4)).prop_map(
        |((user_id, email, name), join_time, suspend_time, invited, workspaces)| {
            let name = if crate::text::has_control(&name) { String::new() } else { name.trim().to_owned() };
            Line::Member(Member {
                organization_id: Uuid::from_u128(7),
                user_id,
                email: Email::parse(&email).unwrap(),
                display_name: name,
                avatar_uri: String::new(),
                role: "member".into(),
                join_time,
                last_sign_in_time: join_time,
                suspend_time,
                invitation_id: invited.map(Uuid::from_u128),
                workspace_ids: workspaces.into_iter().map(Uuid::from_u128).collect(),
            })
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was(line in members()) {
        let written = serde_json::to_string(&line).unwrap();
        prop_assert_eq!(read(&written), Ok(line));
    }

    #[test]
    fn any_text_is_read_or_has_a_fault(text in "\\PC{0,200}") {
        prop_assert!(read(&text).map_or_else(|faulty| !faulty.violations.is_empty(), |_| true));
    }
}
