//! What the server of the floors and the one who loads both speak.

/// The floors.
pub mod floor {
    tonic::include_proto!("floor.v1");
}

/// The contract.
pub mod tenantry {
    tonic::include_proto!("tenantry.v1");
}
