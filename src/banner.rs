//! What `cargo run` prints: lines to paste, by which a newcomer sees it work.

use std::net::SocketAddr;

/// Prints three grpcurl lines that work on this server as it is.
pub fn print(address: SocketAddr, trusts_headers: bool) {
    print!("{}", lines(address, trusts_headers));
}

/// The lines.
#[must_use]
pub fn lines(address: SocketAddr, trusts_headers: bool) -> String {
    let identity = if trusts_headers {
        "-H 'x-user-id: ann' -H 'x-user-email: ann@example.com'"
    } else {
        "-H \"authorization: Bearer $(tenantry token --subject ann --email ann@example.com)\""
    };
    format!(
        "\nTenantry listens on {address}. Paste these:\n\n\
         grpcurl -plaintext {identity} -d '{{\"name\": \"Acme\"}}' {address} tenantry.v1.OrganizationService/CreateOrganization\n\
         grpcurl -plaintext {identity} {address} tenantry.v1.OrganizationService/ListOrganizations\n\
         grpcurl -plaintext {identity} {address} tenantry.v1.BillingService/ListPlans\n\n"
    )
}
