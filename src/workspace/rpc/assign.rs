//! ListWorkspaceMembers and SetMemberWorkspaces.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::{find_seen, missing, refuse_unknown};
use crate::app::App;
use crate::error::Error;
use crate::event::Change;
use crate::fields::{BATCH_MAXIMUM, Fields};
use crate::membership::listing::{Listing, OrderBy, Position};
use crate::membership::{rpc as members, search, store};
use crate::operation::{Command, Member, Query, Reader, Unit};
use crate::page::Page;
use crate::pb;
use crate::pb::set_member_workspaces_request::Change as Wish;
use crate::workspace::{assignments, rules};

pub(super) struct ListWorkspaceMembers {
    workspace_id: Uuid,
    listing: Listing,
    page: Page<Position>,
}

impl Query for ListWorkspaceMembers {
    type Request = pb::ListWorkspaceMembersRequest;
    type Response = pb::ListWorkspaceMembersResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let workspace_id = fields.uuid("workspace_id", &request.workspace_id);
        let listing = Listing {
            order_by: OrderBy::JoinTime,
            descending: false,
            search: String::new(),
            roles: Vec::new(),
            active: true,
            suspended: true,
            workspace_id: Some(workspace_id),
        };
        let list = format!("ListWorkspaceMembers {} {workspace_id}", request.organization_id);
        let place = |position: &Position| listing.has_place(position);
        let page = Page::read(&mut fields, request.page_size, &request.page_token, list, place)?;
        fields.done(Self { workspace_id, listing, page })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        reader.needs(pb::Permission::MembersList)?;
        find_seen(reader, self.workspace_id).await?.ok_or_else(|| missing(self.workspace_id))?;
        let (after, limit) = (self.page.after.as_ref(), self.page.size + 1);
        let size = reader.organization()?.active_members;
        let mut rows = search::list(&reader.app.database, reader.scope, size, &self.listing, after, limit).await?;
        let next_page_token = self.page.cut(&mut rows, |row| self.listing.position(row))?;
        Ok(pb::ListWorkspaceMembersResponse { members: rows.iter().map(members::shown).collect(), next_page_token })
    }
}

const ALL: &str = "all.workspace_ids";
const ADD: &str = "delta.add_workspace_ids";
const REMOVE: &str = "delta.remove_workspace_ids";

pub(super) struct SetMemberWorkspaces {
    user_id: String,
    /// The field that names those to be assigned to.
    field: &'static str,
    /// Each once, with the index at which it came first.
    add: Vec<(usize, Uuid)>,
    /// Those to be assigned to no longer; all others when none are said.
    remove: Option<BTreeSet<Uuid>>,
}

impl Command for SetMemberWorkspaces {
    type Request = pb::SetMemberWorkspacesRequest;
    type Response = pb::SetMemberWorkspacesResponse;
    type Actor = Member;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let user_id = fields.user_id("user_id", &request.user_id);
        let (field, add, remove) = match &request.change {
            Some(Wish::All(all)) => (ALL, ids(&mut fields, ALL, &all.workspace_ids)?, None),
            Some(Wish::Delta(delta)) => {
                let add = ids(&mut fields, ADD, &delta.add_workspace_ids)?;
                let remove = ids(&mut fields, REMOVE, &delta.remove_workspace_ids)?;
                for (index, _) in remove.iter().filter(|(_, id)| add.iter().any(|(_, added)| added == id)) {
                    fields.fault(format!("{REMOVE}[{index}]"), format!("stands in {ADD} too"));
                }
                (ADD, add, Some(remove.into_iter().map(|(_, id)| id).collect()))
            }
            None => {
                fields.fault("change", "must say all, or delta");
                (ALL, Vec::new(), None)
            }
        };
        fields.done(Self { user_id, field, add, remove })
    }

    async fn run(&self, unit: &mut Unit<'_, Member>) -> Result<Self::Response, Error> {
        let (transaction, scope) = (unit.transaction(), unit.scope());
        let missing = || Error::MemberNotFound { user_id: self.user_id.clone() };
        let member = store::find(transaction, scope, &self.user_id).await?.ok_or_else(missing)?;
        refuse_unknown(transaction, scope, self.field, &self.add).await?;
        let current = assignments::list_of_member(transaction, scope, &member.user_id).await?;
        let add: BTreeSet<Uuid> = self.add.iter().map(|(_, id)| *id).collect();
        let others = || current.difference(&add).copied().collect();
        let moves = rules::moves(&current, &add, &self.remove.clone().unwrap_or_else(others));
        rules::within_limit(&moves.end)?;
        if moves.end != current {
            assignments::delete(unit, &member.user_id, &moves.removed).await?;
            assignments::insert(unit, &member, &moves.added).await?;
            unit.record(Change::MemberWorkspacesChanged {
                user_id: member.user_id,
                added: moves.added,
                removed: moves.removed,
            });
        }
        Ok(pb::SetMemberWorkspacesResponse { workspace_ids: moves.end.iter().map(Uuid::to_string).collect() })
    }
}

/// Reads ids of workspaces, each once with the index at which it came first.
fn ids(fields: &mut Fields, field: &'static str, ids: &[String]) -> Result<Vec<(usize, Uuid)>, Error> {
    if ids.len() > BATCH_MAXIMUM {
        return Err(Error::BatchTooLarge { field, size: ids.len(), maximum: BATCH_MAXIMUM });
    }
    let ids = ids.iter().enumerate();
    let ids: Vec<Uuid> = ids.map(|(index, id)| fields.uuid(&format!("{field}[{index}]"), id)).collect();
    Ok(Fields::distinct(ids, |id| *id))
}
