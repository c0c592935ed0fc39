//! MembershipService on the wire: a file for each RPC or family, and how members and invitations are shown.

mod answer;
mod cancel;
mod check;
mod custom_roles;
mod invite;
mod join;
mod join_requests;
mod leave;
mod list_invitations;
mod list_members;
mod remove;
pub(crate) mod roles;
mod sign_in;
mod suspend;
mod transfer;
mod update_roles;

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::rules;
use crate::app::App;
use crate::entity::invitation::{self, State};
use crate::entity::membership;
use crate::error::Error;
use crate::etag;
use crate::fields::{Fields, timestamp};
use crate::forward::forward;
use crate::operation;
use crate::pb;
use crate::pb::membership_service_server::MembershipService;

/// MembershipService over the engine.
#[derive(Clone, Debug)]
pub struct Service(pub Arc<App>);

forward! { MembershipService:
    invite_members(InviteMembersRequest) -> InviteMembersResponse: operation::change::<invite::InviteMembers>;
    get_invitation(GetInvitationRequest) -> GetInvitationResponse: operation::read::<list_invitations::GetInvitation>;
    list_invitations(ListInvitationsRequest) -> ListInvitationsResponse: operation::read::<list_invitations::ListInvitations>;
    resend_invitation(ResendInvitationRequest) -> ResendInvitationResponse: operation::change::<invite::ResendInvitation>;
    cancel_invitations(CancelInvitationsRequest) -> CancelInvitationsResponse: operation::change::<cancel::CancelInvitations>;
    accept_invitation(AcceptInvitationRequest) -> AcceptInvitationResponse: operation::change::<answer::AcceptInvitation>;
    decline_invitation(DeclineInvitationRequest) -> DeclineInvitationResponse: operation::change::<answer::DeclineInvitation>;
    list_received_invitations(ListReceivedInvitationsRequest) -> ListReceivedInvitationsResponse: list_invitations::list_received;
    get_member(GetMemberRequest) -> GetMemberResponse: operation::read::<list_members::GetMember>;
    list_members(ListMembersRequest) -> ListMembersResponse: operation::read::<list_members::ListMembers>;
    update_member_role(UpdateMemberRoleRequest) -> UpdateMemberRoleResponse: operation::change::<update_roles::UpdateMemberRole>;
    batch_update_member_roles(BatchUpdateMemberRolesRequest) -> BatchUpdateMemberRolesResponse: operation::change::<update_roles::BatchUpdateMemberRoles>;
    remove_member(RemoveMemberRequest) -> RemoveMemberResponse: operation::change::<remove::RemoveMember>;
    batch_remove_members(BatchRemoveMembersRequest) -> BatchRemoveMembersResponse: operation::change::<remove::BatchRemoveMembers>;
    suspend_member(SuspendMemberRequest) -> SuspendMemberResponse: operation::change::<suspend::SuspendMember>;
    reactivate_member(ReactivateMemberRequest) -> ReactivateMemberResponse: operation::change::<suspend::ReactivateMember>;
    leave_organization(LeaveOrganizationRequest) -> LeaveOrganizationResponse: operation::change::<leave::LeaveOrganization>;
    transfer_ownership(TransferOwnershipRequest) -> TransferOwnershipResponse: operation::change::<transfer::TransferOwnership>;
    record_sign_in(RecordSignInRequest) -> RecordSignInResponse: operation::change::<sign_in::RecordSignIn>;
    list_roles(ListRolesRequest) -> ListRolesResponse: operation::read::<roles::ListRoles>;
    check_permissions(CheckPermissionsRequest) -> CheckPermissionsResponse: operation::read::<check::CheckPermissions>;
    get_received_invitation(GetReceivedInvitationRequest) -> GetReceivedInvitationResponse: list_invitations::get_received;
    create_role(CreateRoleRequest) -> CreateRoleResponse: operation::change::<custom_roles::CreateRole>;
    update_role(UpdateRoleRequest) -> UpdateRoleResponse: operation::change::<custom_roles::UpdateRole>;
    delete_role(DeleteRoleRequest) -> DeleteRoleResponse: operation::change::<custom_roles::DeleteRole>;
    list_joinable_organizations(ListJoinableOrganizationsRequest) -> ListJoinableOrganizationsResponse: join::list_joinable;
    join_organization(JoinOrganizationRequest) -> JoinOrganizationResponse: operation::change::<join::JoinOrganization>;
    withdraw_join_request(WithdrawJoinRequestRequest) -> WithdrawJoinRequestResponse: operation::change::<join::WithdrawJoinRequest>;
    list_join_requests(ListJoinRequestsRequest) -> ListJoinRequestsResponse: operation::read::<join_requests::ListJoinRequests>;
    approve_join_request(ApproveJoinRequestRequest) -> ApproveJoinRequestResponse: operation::change::<join_requests::ApproveJoinRequest>;
    decline_join_request(DeclineJoinRequestRequest) -> DeclineJoinRequestResponse: operation::change::<join_requests::DeclineJoinRequest>;
}

/// A member as the wire shows them.
pub(crate) fn shown(row: &membership::Model) -> pb::Member {
    let state = match row.suspended_at {
        None => pb::MemberState::Active,
        Some(_) => pb::MemberState::Suspended,
    };
    let signed_in = row.last_sign_in_at > DateTime::UNIX_EPOCH;
    pb::Member {
        organization_id: row.organization_id.to_string(),
        user_id: row.user_id.clone(),
        email: row.email.clone(),
        display_name: row.display_name.clone(),
        avatar_uri: row.avatar_uri.clone(),
        role: row.role.clone(),
        state: state.into(),
        join_time: Some(timestamp(row.joined_at)),
        last_sign_in_time: signed_in.then(|| timestamp(row.last_sign_in_at)),
        suspend_time: row.suspended_at.map(timestamp),
        etag: etag::of(row.version),
        invitation_id: row.invitation_id.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// Somebody who is expected, in a list of members.
fn shown_expected(row: &invitation::Model) -> pb::Member {
    pb::Member {
        organization_id: row.organization_id.to_string(),
        email: row.email.clone(),
        role: row.role.clone(),
        state: pb::MemberState::Pending.into(),
        invitation_id: row.invitation_id.to_string(),
        ..pb::Member::default()
    }
}

/// An invitation as the wire shows it at an instant.
fn shown_invitation(row: &invitation::Model, now: DateTime<Utc>) -> pb::Invitation {
    let state = match row.state {
        State::Pending if rules::is_expired(row, now) => pb::InvitationState::Expired,
        State::Pending => pb::InvitationState::Pending,
        State::Accepted => pb::InvitationState::Accepted,
        State::Declined => pb::InvitationState::Declined,
        State::Canceled => pb::InvitationState::Canceled,
    };
    pb::Invitation {
        organization_id: row.organization_id.to_string(),
        invitation_id: row.invitation_id.to_string(),
        email: row.email.clone(),
        role: row.role.clone(),
        state: state.into(),
        create_time: Some(timestamp(row.created_at)),
        send_time: Some(timestamp(row.sent_at)),
        expire_time: Some(timestamp(row.expires_at)),
        end_time: row.ended_at.map(timestamp),
        inviter_user_id: row.inviter_user_id.clone(),
        invitee_user_id: row.invitee_user_id.clone().unwrap_or_default(),
        send_count: row.send_count,
        inviter_role: row.inviter_role.clone(),
        workspace_ids: chosen(row).iter().map(Uuid::to_string).collect(),
    }
}

/// The workspaces that were chosen for an invitee.
fn chosen(row: &invitation::Model) -> &[Uuid] {
    row.workspace_ids.as_ref().map(|chosen| chosen.0.as_slice()).unwrap_or_default()
}

/// One member, as a request names them.
struct Target {
    user_id: String,
    /// The etag that the caller has read.
    etag: String,
}

impl Target {
    fn read(user_id: &str, etag: &str) -> Result<Self, Error> {
        let mut fields = Fields::new();
        let user_id = fields.user_id("user_id", user_id);
        fields.done(Self { user_id, etag: etag.to_owned() })
    }
}

/// The members of a batch by their ids, so that each item finds its own.
fn by_user_id(rows: Vec<membership::Model>) -> HashMap<String, membership::Model> {
    rows.into_iter().map(|row| (row.user_id.clone(), row)).collect()
}

/// The one answer of an operation on one item that runs as a batch: a fault is told as its own, not as an item's.
fn single<T>(outcome: Result<Vec<T>, Error>) -> Result<T, Error> {
    match outcome {
        Ok(mut answers) => answers.pop().ok_or(Error::defect("a batch of one has no answer")),
        Err(Error::Items { mut faults, .. }) => {
            Err(faults.pop().map_or(Error::defect("a refusal without a reason"), |(_, fault)| fault))
        }
        Err(error) => Err(error),
    }
}
