//! What `cargo run` prints: lines to paste, by which a newcomer sees it work.

use std::net::SocketAddr;

/// How the lines say who calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// By headers, which this server believes.
    Headers,
    /// By a token that this binary mints, given the secret.
    Secret,
    /// By a token of an issuer elsewhere.
    Issuer,
}

/// Prints where the server listens and three grpcurl lines that work on it as it is.
pub fn print(address: SocketAddr, identity: Identity) {
    print!("{}", lines(address, identity, &program()));
}

/// This program, as a shell finds it from anywhere.
fn program() -> String {
    std::env::current_exe().map_or_else(|_| "tenantry".to_owned(), |path| format!("'{}'", path.display()))
}

fn lines(address: SocketAddr, identity: Identity, program: &str) -> String {
    let (beforehand, who) = match identity {
        Identity::Headers => ("", "-H 'x-user-id: ann' -H 'x-user-email: ann@example.com'".to_owned()),
        Identity::Secret => (
            " in a shell that has the TENANTRY_JWT_… settings of this server",
            format!("-H \"authorization: Bearer $({program} token --subject ann --email ann@example.com)\""),
        ),
        Identity::Issuer => (" with a token of your issuer in TOKEN", "-H \"authorization: Bearer $TOKEN\"".to_owned()),
    };
    format!(
        "\nTenantry listens on {address}. Paste these{beforehand}:\n\n\
         grpcurl -plaintext {who} -d '{{\"name\": \"Acme\"}}' {address} tenantry.v1.OrganizationService/CreateOrganization\n\
         grpcurl -plaintext {who} {address} tenantry.v1.OrganizationService/ListOrganizations\n\
         grpcurl -plaintext {who} {address} tenantry.v1.BillingService/ListPlans\n\n"
    )
}
