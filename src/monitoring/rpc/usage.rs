//! GetUsageSummary.

use crate::app::App;
use crate::billing::rpc::seat_usage;
use crate::billing::shown;
use crate::error::Error;
use crate::operation::{Query, Reader};
use crate::pb::{self, Permission};

pub(super) struct GetUsageSummary;

impl Query for GetUsageSummary {
    type Request = pb::GetUsageSummaryRequest;
    type Response = pb::GetUsageSummaryResponse;

    fn parse(_: &Self::Request, _: &App) -> Result<Self, Error> {
        Ok(Self)
    }

    async fn run(&self, reader: &Reader<'_>) -> Result<Self::Response, Error> {
        // A role of an organization's own may monitor and not know the seats.
        let sees_seats = reader.sees(Permission::SeatsRead);
        let licenses = if sees_seats { Some(shown::seat_usage(reader.scope, seat_usage(reader).await?)) } else { None };
        let organization = reader.organization()?;
        let usage = pb::UsageSummary {
            organization_id: organization.organization_id.to_string(),
            licenses,
            storage_bytes: organization.storage_bytes,
            recordings: organization.recordings,
            live_sessions: organization.live_sessions,
        };
        Ok(pb::GetUsageSummaryResponse { usage: Some(usage) })
    }
}
