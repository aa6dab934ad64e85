# The image of tidelog: built with cargo alone, run by nobody in particular on a root file system that may be read-only.
#
#   docker build -t tidelog:local .
#   docker run --read-only -v tidelog:/var/lib/tidelog -p 127.0.0.1:7070:7070 tidelog:local serve --listen 0.0.0.0:7070 --insecure
#
# Everything that is written is under /var/lib/tidelog. SIGTERM drains and ends within shutdown.deadline (10 s): allow more
# before a kill. minio/compose.yaml and terraform/ use this image.

ARG RUST_IMAGE=docker.io/library/rust:1.95-bookworm
ARG RUNTIME_IMAGE=docker.io/library/debian:bookworm-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /build
COPY . .
RUN cargo build --release --locked -p tidelog-cli --bin tidelog && mkdir /empty

FROM ${RUNTIME_IMAGE}
# The authorities that are believed when the bucket's endpoint speaks TLS; the small image has none of its own.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /build/target/release/tidelog /usr/local/bin/tidelog
# A volume that is mounted here for the first time takes its owner from this directory.
COPY --from=build --chown=65532:65532 /empty /var/lib/tidelog
ENV TIDELOG__DATA_DIR=/var/lib/tidelog
WORKDIR /var/lib/tidelog
USER 65532:65532
EXPOSE 7070 7071 7075
STOPSIGNAL SIGTERM
# Asks the listener for clients; TIDELOG_SERVER says where it is, if not on port 7070 without TLS.
HEALTHCHECK --interval=5s --timeout=5s --start-period=60s --retries=6 CMD ["tidelog", "ready"]
ENTRYPOINT ["tidelog"]
CMD ["serve"]
