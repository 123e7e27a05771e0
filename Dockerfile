# syntax=docker/dockerfile:1
# Both images:
#
#     docker build --target server -t message-vault-server .
#     docker build --target operator -t message-vault-operator .
#
# They hold programs without shared libraries, certificates of authorities, and names of users: no shell, no package
# manager. What is in them is laid out by tests/build-images, which the tests run too.

FROM rust:1.95-bookworm AS build
WORKDIR /source
COPY . .
ARG PROFILE=release
# Cargo's registry and target directory outlive the layer, so that the next build does not begin anew.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/root/.cache/message-vault \
    ./tests/build-images /images --profile "$PROFILE"

FROM scratch AS server
LABEL org.opencontainers.image.title="Message Vault server" \
      org.opencontainers.image.description="Publish-subscribe with replay on Azure Blob storage: vault-server and mvctl" \
      org.opencontainers.image.source="https://github.com/message-vault/message-vault" \
      org.opencontainers.image.licenses="BSD-3-Clause"
COPY --from=build /images/server/ /
USER 65532:65532
WORKDIR /
# Applications; health and metrics where --internal-listen names this port, as the operator does.
EXPOSE 8480 8481
ENTRYPOINT ["/usr/bin/vault-server"]

FROM scratch AS operator
LABEL org.opencontainers.image.title="Message Vault operator" \
      org.opencontainers.image.description="Turns MessageVault and VaultStream resources into servers and streams" \
      org.opencontainers.image.source="https://github.com/message-vault/message-vault" \
      org.opencontainers.image.licenses="BSD-3-Clause"
COPY --from=build /images/operator/ /
USER 65532:65532
WORKDIR /
# Health and metrics.
EXPOSE 8080
ENTRYPOINT ["/usr/bin/vault-operator"]
