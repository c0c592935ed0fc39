//! Makes the code of `proto/floor.proto`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["floor.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(files)?;
    Ok(())
}
