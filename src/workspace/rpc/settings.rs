//! How rooms behave, on the wire.

use crate::entity::workspace::{Access, RoomSettings};
use crate::event::{FieldChange, set};
use crate::fields::Fields;
use crate::pb;
use crate::workspace::rules::MOST_PARTICIPANTS;

/// The fields of a room's settings that are to change.
#[derive(Default)]
pub(super) struct SettingsUpdate {
    access: Option<Access>,
    lobby: Option<bool>,
    mute_on_entry: Option<bool>,
    automatic_recording: Option<bool>,
    maximum_participants: Option<i32>,
}

/// The names of the fields.
const FIELDS: [&str; 5] = ["access", "lobby", "mute_on_entry", "automatic_recording", "maximum_participants"];

impl SettingsUpdate {
    /// Reads all fields of `new`, whose path is `field`.
    pub(super) fn all(fields: &mut Fields, field: &str, new: &pb::RoomSettings) -> Self {
        let mut update = Self::default();
        for name in FIELDS {
            update.read(fields, field, name, new);
        }
        update
    }

    /// Reads one field of `new`; says whether there is such a field.
    pub(super) fn read(&mut self, fields: &mut Fields, field: &str, name: &str, new: &pb::RoomSettings) -> bool {
        match name {
            "access" => self.access = Some(access(fields, field, new.access)),
            "lobby" => self.lobby = Some(new.lobby),
            "mute_on_entry" => self.mute_on_entry = Some(new.mute_on_entry),
            "automatic_recording" => self.automatic_recording = Some(new.automatic_recording),
            "maximum_participants" => {
                self.maximum_participants = Some(participants(fields, field, new.maximum_participants));
            }
            _ => return false,
        }
        true
    }

    /// Sets the fields, and notes those that were another before.
    pub(super) fn apply(&self, settings: &mut RoomSettings, changes: &mut Vec<FieldChange>) {
        set(changes, "room_settings.access", self.access.as_ref(), &mut settings.access);
        set(changes, "room_settings.lobby", self.lobby.as_ref(), &mut settings.lobby);
        set(changes, "room_settings.mute_on_entry", self.mute_on_entry.as_ref(), &mut settings.mute_on_entry);
        let recording = &mut settings.automatic_recording;
        set(changes, "room_settings.automatic_recording", self.automatic_recording.as_ref(), recording);
        let most = &mut settings.maximum_participants;
        set(changes, "room_settings.maximum_participants", self.maximum_participants.as_ref(), most);
    }
}

fn access(fields: &mut Fields, field: &str, number: i32) -> Access {
    match pb::RoomAccess::try_from(number) {
        Ok(pb::RoomAccess::Unspecified | pb::RoomAccess::Members) => Access::Members,
        Ok(pb::RoomAccess::Assigned) => Access::Assigned,
        Ok(pb::RoomAccess::Anyone) => Access::Anyone,
        Err(_) => {
            fields.fault(format!("{field}.access"), "must be ROOM_ACCESS_MEMBERS, _ASSIGNED or _ANYONE");
            Access::Members
        }
    }
}

fn participants(fields: &mut Fields, field: &str, most: i32) -> i32 {
    if !(0..=MOST_PARTICIPANTS).contains(&most) {
        let description = "must be 1 to 100,000, or 0 for as many as the plan allows";
        fields.fault(format!("{field}.maximum_participants"), description);
    }
    most
}

/// The settings as the wire shows them.
pub(super) fn shown(settings: &RoomSettings) -> pb::RoomSettings {
    let access = match settings.access {
        Access::Members => pb::RoomAccess::Members,
        Access::Assigned => pb::RoomAccess::Assigned,
        Access::Anyone => pb::RoomAccess::Anyone,
    };
    pb::RoomSettings {
        access: access.into(),
        lobby: settings.lobby,
        mute_on_entry: settings.mute_on_entry,
        automatic_recording: settings.automatic_recording,
        maximum_participants: settings.maximum_participants,
    }
}
