//! ClockService: the manual clock over gRPC, for tests and integrators.

use tonic::{Request, Response, Status};

use crate::clock::ManualClock;
use crate::error::Error;
use crate::fields::{Fields, timestamp};
use crate::operation;
use crate::pb::testing as pb;
use crate::pb::testing::clock_service_server::ClockService;

const LONGEST_STEP: chrono::TimeDelta = chrono::TimeDelta::days(3660);

/// ClockService over a manual clock.
#[derive(Clone, Debug)]
pub struct Service(pub ManualClock);

#[tonic::async_trait]
impl ClockService for Service {
    async fn get_time(&self, request: Request<pb::GetTimeRequest>) -> Result<Response<pb::GetTimeResponse>, Status> {
        operation::authorized(&request)?;
        Ok(Response::new(pb::GetTimeResponse { time: Some(timestamp(self.0.now())) }))
    }

    async fn advance_time(
        &self,
        request: Request<pb::AdvanceTimeRequest>,
    ) -> Result<Response<pb::AdvanceTimeResponse>, Status> {
        let (_, request) = operation::split(request)?;
        let time = self.advance(&request)?;
        // What is due by then is done now, and not when the worker next looks.
        self.0.announce();
        Ok(Response::new(pb::AdvanceTimeResponse { time: Some(timestamp(time)) }))
    }
}

impl Service {
    fn advance(&self, request: &pb::AdvanceTimeRequest) -> Result<chrono::DateTime<chrono::Utc>, Error> {
        let mut fields = Fields::new();
        let shortest = chrono::TimeDelta::microseconds(1);
        let step = fields.duration("duration", request.duration.as_ref(), shortest..=LONGEST_STEP);
        let micros = step.and_then(|step| step.num_microseconds()).and_then(|micros| u64::try_from(micros).ok());
        let moved = micros.and_then(|micros| self.0.advance(micros));
        if moved.is_none() && request.duration.is_none() {
            fields.fault("duration", "must be said");
        } else if moved.is_none() && micros.is_some() {
            fields.fault("duration", "would move the clock beyond the year 9999");
        }
        fields.done(moved)?.ok_or(Error::defect("a clock that did not move"))
    }
}
