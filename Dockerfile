FROM rust:1-slim-bookworm AS build
WORKDIR /build

# The dependencies have a layer of their own, which changes to the service leave as it is.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo 'fn main() {}' | tee build.rs > src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked

COPY build.rs ./
COPY migrations ./migrations
COPY proto ./proto
COPY src ./src
# cargo judges by file times, and these files may be older than the stubs that were built above.
RUN touch build.rs src/main.rs src/lib.rs && cargo build --release --locked

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --no-create-home tenantry && install --directory --owner=tenantry /data
COPY --from=build /build/target/release/tenantry /usr/local/bin/tenantry
USER 10001
# The embedded database stands in the working directory, unless TENANTRY_DATABASE_URL says otherwise.
WORKDIR /data
VOLUME /data
# A container is reached from outside it. The service listens beyond loopback only when it knows whom to believe: give it
# TENANTRY_JWKS or TENANTRY_JWT_SECRET, or TENANTRY_TRUST_METADATA when nothing but a gateway can reach it.
ENV TENANTRY_LISTEN=0.0.0.0:50051
EXPOSE 50051
ENTRYPOINT ["tenantry"]
