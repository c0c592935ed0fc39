//! GetMember and ListMembers.

use super::{shown, shown_expected};
use crate::app::App;
use crate::entity::{invitation, membership};
use crate::error::Error;
use crate::fields::Fields;
use crate::membership::listing::{self, Listing, OrderBy, Position};
use crate::membership::search;
use crate::operation::{Query, Reader};
use crate::page::Page;
use crate::pb::{self, MemberState};
use crate::text;
use crate::workspace::rpc::find_seen;

const MOST_ROLES: usize = 100;

pub(super) struct GetMember {
    user_id: String,
}

impl Query for GetMember {
    type Request = pb::GetMemberRequest;
    type Response = pb::GetMemberResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let user_id = fields.user_id("user_id", &request.user_id);
        fields.done(Self { user_id })
    }

    fn other(&self) -> Option<&str> {
        Some(&self.user_id)
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        let own = reader.membership.as_ref().filter(|own| own.user_id == self.user_id);
        let found = own.or(reader.other.as_ref());
        let found = found.ok_or(Error::MemberNotFound { user_id: self.user_id.clone() })?;
        Ok(pb::GetMemberResponse { member: Some(shown(found)) })
    }
}

pub(super) struct ListMembers {
    listing: Listing,
    expected: bool,
    page: Page<Position>,
}

impl Query for ListMembers {
    type Request = pb::ListMembersRequest;
    type Response = pb::ListMembersResponse;

    fn parse(request: &Self::Request, _: &App) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let (order_by, descending) = order(&mut fields, &request.order_by);
        let search = text::fold(&fields.line("search", &request.search, 0..=100));
        let roles = filter_roles(&mut fields, &request.roles);
        let states = states(&mut fields, &request.states);
        let workspace_id =
            (!request.workspace_id.is_empty()).then(|| fields.uuid("workspace_id", &request.workspace_id));
        let shows = |state| states.contains(&state);
        let listing = Listing {
            order_by,
            descending,
            search,
            roles,
            active: states.is_empty() || shows(MemberState::Active),
            suspended: states.is_empty() || shows(MemberState::Suspended),
            workspace_id,
        };
        let expected = shows(MemberState::Pending);
        let list = format!("ListMembers {} {listing:?} {expected}", request.organization_id);
        let place = |position: &Position| listing.has_place(position);
        let page = Page::read(&mut fields, request.page_size, &request.page_token, list, place)?;
        fields.done(Self { listing, expected, page })
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        if self.expected {
            reader.needs(pb::Permission::InvitationsList)?;
        }
        let (connection, scope, listing) = (reader.connection(), reader.scope, &self.listing);
        if let Some(workspace_id) = listing.workspace_id
            && find_seen(reader, workspace_id).await?.is_none()
        {
            // Nobody is in one that there is not, though an invitation may still name it.
            return Ok(pb::ListMembersResponse::default());
        }
        let (after, limit) = (self.page.after.as_ref(), self.page.size + 1);
        let size = reader.organization()?.active_members;
        let members = search::list(&reader.app.database, scope, size, listing, after, limit).await?;
        let expected = if self.expected {
            listing::list_expected(connection, scope, listing, reader.now, after, limit).await?
        } else {
            Vec::new()
        };
        let mut rows = merged(listing, &members, &expected);
        let next_page_token = self.page.cut(&mut rows, |(position, _)| position.clone())?;
        Ok(pb::ListMembersResponse { members: rows.into_iter().map(|(_, member)| member).collect(), next_page_token })
    }
}

/// Members and expected ones in one order.
fn merged(
    listing: &Listing,
    members: &[membership::Model],
    expected: &[invitation::Model],
) -> Vec<(Position, pb::Member)> {
    let mut rows: Vec<(Position, pb::Member)> = members.iter().map(|row| (listing.position(row), shown(row))).collect();
    if !expected.is_empty() {
        rows.extend(expected.iter().map(|row| (listing::position_of_expected(listing, row), shown_expected(row))));
        rows.sort_by(|(one, _), (other, _)| if listing.descending { other.cmp(one) } else { one.cmp(other) });
    }
    rows
}

/// Roles to filter by: also one that the role policy does not have any more, whose holders are to be found.
fn filter_roles(fields: &mut Fields, roles: &[String]) -> Vec<String> {
    let distinct = Fields::distinct(roles.iter(), |role| role.as_str());
    if distinct.len() > MOST_ROLES {
        fields.fault("roles", format!("must name at most {MOST_ROLES} roles"));
    }
    let read = distinct.into_iter().take(MOST_ROLES);
    read.map(|(index, role)| fields.line(&format!("roles[{index}]"), role, 1..=40)).collect()
}

fn order(fields: &mut Fields, order_by: &str) -> (OrderBy, bool) {
    let mut words = order_by.split_whitespace();
    let key = match words.next() {
        None | Some("join_time") => Some(OrderBy::JoinTime),
        Some("display_name") => Some(OrderBy::DisplayName),
        Some("email") => Some(OrderBy::Email),
        Some("last_sign_in_time") => Some(OrderBy::LastSignInTime),
        Some(_) => None,
    };
    let descending = match words.next() {
        None | Some("asc") => Some(false),
        Some("desc") => Some(true),
        Some(_) => None,
    };
    if let (Some(key), Some(descending), None) = (key, descending, words.next()) {
        return (key, descending);
    }
    let description = "must be join_time, display_name, email or last_sign_in_time, with \" desc\" after it or not";
    fields.fault("order_by", description);
    (OrderBy::JoinTime, false)
}

fn states(fields: &mut Fields, numbers: &[i32]) -> Vec<MemberState> {
    fields.states(numbers, "must be MEMBER_STATE_ACTIVE, _SUSPENDED or _PENDING", |number| {
        MemberState::try_from(number).ok().filter(|state| *state != MemberState::Unspecified)
    })
}
