# One small image with the one binary: `shef bootstrap`, `shef master`, `shef agent`
# and the commands around them. Works with the classic builder and with BuildKit.
#
#   docker build -t shef .                   builds from source
#   docker build -t shef --target packed .   packs target/release/shef, built outside
#
# Where no public registry is reached, name your own base images:
#   --build-arg BUILD_IMAGE=... --build-arg BASE_IMAGE=...
# The base needs the shared libraries that `ldd target/release/shef` names, and CA certificates.
ARG BUILD_IMAGE=docker.io/library/rust:1.95-bookworm
ARG BASE_IMAGE=gcr.io/distroless/cc-debian12:latest

# What both ways have in common. Agent and bootstrap need the engine's socket, which
# is root's; the bootstrap starts the master as 65532, and so should you.
FROM ${BASE_IMAGE} AS base
ARG VERSION=unknown
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="shef" \
      org.opencontainers.image.description="Runs containers on plain Docker hosts" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0"
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/shef/
USER 0:0
EXPOSE 8044 11044
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/usr/local/bin/shef", "health"]
ENTRYPOINT ["/usr/local/bin/shef"]

# Packs a binary that was built outside. The classic builder runs every stage up to
# the target: a glob beside a file that is always there lets this one pass without.
FROM base AS packed
ARG PACKED=target/release/she[f]
COPY LICENSE-MIT ${PACKED} /usr/local/bin/

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked --bin shef

FROM base
COPY --from=build /src/target/release/shef /usr/local/bin/shef
