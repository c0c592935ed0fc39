//! Makes the code of `proto/floor.proto`, and of the contract: the service itself need not be built to be called.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let contract = ["membership", "organization"].map(|name| format!("tenantry/v1/{name}_service.proto"));
    let files = contract.iter().map(String::as_str).chain(["floor.proto"]);
    tonic_prost_build::configure().compile_fds(protox::compile(files, ["proto", "../proto"])?)?;
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=../proto");
    Ok(())
}
