//! CancelInvitations.

use std::collections::HashMap;

use uuid::Uuid;

use super::shown_invitation;
use crate::app::App;
use crate::entity::invitation::{self, State};
use crate::error::Error;
use crate::event::Change;
use crate::fields::Fields;
use crate::membership::{invitations, rules};
use crate::operation::{Command, Member, Unit};
use crate::pb;

pub(super) struct CancelInvitations {
    /// Each once, with the index at which it came first.
    invitation_ids: Vec<(usize, Uuid)>,
}

impl Command for CancelInvitations {
    type Request = pb::CancelInvitationsRequest;
    type Response = pb::CancelInvitationsResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        fields.batch("invitation_ids", request.invitation_ids.len())?;
        let ids = request.invitation_ids.iter().enumerate();
        let ids: Vec<Uuid> = ids.map(|(index, id)| fields.uuid(&format!("invitation_ids[{index}]"), id)).collect();
        fields.done(Self { invitation_ids: Fields::distinct(ids, |id| *id) })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        // What has expired gave its seat back then, and not by this.
        unit.seats().await?;
        let ids: Vec<Uuid> = self.invitation_ids.iter().map(|(_, id)| *id).collect();
        let found = invitations::list_by_ids(unit.transaction(), unit.scope(), &ids).await?;
        let mut found: HashMap<Uuid, invitation::Model> =
            found.into_iter().map(|row| (row.invitation_id, row)).collect();
        let (mut rows, mut faults) = (Vec::with_capacity(ids.len()), Vec::new());
        for (index, invitation_id) in &self.invitation_ids {
            let row = found.remove(invitation_id);
            let row = row.ok_or(Error::InvitationNotFound { invitation_id: Some(*invitation_id) });
            let judged = row.and_then(|row| {
                rules::may_invite(&unit.policy, &unit.actor.role, &row.role)?;
                rules::pending(&row)?;
                Ok(row)
            });
            match judged {
                Ok(row) => rows.push(row),
                Err(fault) => faults.push((*index, fault)),
            }
        }
        Error::refuse_items("invitation_ids", faults)?;
        invitations::end(unit, &mut rows.iter_mut().collect::<Vec<_>>(), State::Canceled, None).await?;
        for row in &rows {
            unit.record(Change::InvitationCanceled { invitation_id: row.invitation_id, role: row.role.clone() });
        }
        Ok(pb::CancelInvitationsResponse {
            invitations: rows.iter().map(|row| shown_invitation(row, unit.now)).collect(),
        })
    }
}
