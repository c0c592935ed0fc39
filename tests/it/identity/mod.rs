//! Who calls: identity headers, signed tokens, trusted services, and those who are nobody.

mod headers;
mod keys;
mod paths;
mod services;
mod tokens;

use tenantry::pb;
use tonic::transport::Channel;

use crate::harness::person::{Identity, Person, answer};
use crate::harness::refused::Refused;

/// Somebody with just these keys.
fn with(channel: Channel, keys: &[(&'static str, &str)]) -> Person {
    let identity = Identity(keys.iter().map(|(key, value)| (*key, (*value).to_owned())).collect());
    Person { identity, ..Person::new(channel, "somebody") }
}

/// Whether the server knows who calls: it lets everybody list the plans whom it knows, and nobody else.
async fn is_known(caller: &Person) -> Result<(), Refused> {
    answer(caller.billing().list_plans(pb::ListPlansRequest {}).await).map(drop)
}

async fn creates_organization(caller: &Person) -> Result<pb::Organization, Refused> {
    let request = pb::CreateOrganizationRequest { name: "Acme".into(), ..Default::default() };
    let created = answer(caller.organizations().create_organization(request).await)?;
    Ok(created.organization.expect("an organization"))
}

async fn gets_organization(caller: &Person, organization_id: &str) -> Result<(), Refused> {
    let request = pb::GetOrganizationRequest { organization_id: organization_id.to_owned() };
    answer(caller.organizations().get_organization(request).await).map(drop)
}
