# A static binary and nothing else: no shell, no libraries, no user but its own.
FROM rust:1-slim-bookworm AS build
WORKDIR /build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# Static, for the machine that builds: with a target that is named, the flag is not for build scripts and macros.
ENV RUSTFLAGS="-C target-feature=+crt-static"
RUN rustc -vV | sed -n 's/^host: //p' > /target

# The dependencies have a layer of their own, which changes to the service leave as it is.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo 'fn main() {}' > build.rs \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --release --locked --target "$(cat /target)"

COPY build.rs ./
COPY migrations ./migrations
COPY proto ./proto
COPY src ./src
# cargo judges by file times, and these files may be older than the stubs that were built above.
RUN touch build.rs src/main.rs src/lib.rs \
    && cargo build --release --locked --target "$(cat /target)" \
    && install -D "target/$(cat /target)/release/tenantry" /image/tenantry \
    && install --directory --owner=10001 --group=10001 /image/data

FROM scratch
COPY --from=build /image /
USER 10001:10001
# The embedded database stands here, unless TENANTRY_DATABASE_URL says otherwise: the one place that must be writable.
WORKDIR /data
VOLUME /data
# A container is reached from outside it. The service listens beyond loopback only when it knows whom to believe: give it
# TENANTRY_JWKS, TENANTRY_JWT_SECRET or TENANTRY_TLS_SERVICES, or TENANTRY_TRUST_METADATA when nothing but a gateway can reach it.
ENV TENANTRY_LISTEN=0.0.0.0:50051 \
    TENANTRY_HEALTH_LISTEN=0.0.0.0:50053 \
    TENANTRY_METRICS_LISTEN=0.0.0.0:9464
EXPOSE 50051 50053 9464
# Whether the process answers: a database that is away is no reason to kill it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["/tenantry", "health", "--service", "liveness"]
ENTRYPOINT ["/tenantry"]
