# The sidepass image: one static binary, the CA roots and the licences, nothing else. It takes no arguments, runs as nobody in particular, and
# writes nothing: its root may be read-only.
#
#   docker build -t sidepass .
#
# Without pulling anything, and with buildah: release/build --image linux-amd64. It puts a folder of its own in the place of the stage dist.

# What the image stands on. A base of your own may be anything: nothing in it is used.
ARG BASE=scratch

FROM --platform=$BUILDPLATFORM golang:1.26.8-alpine AS dist
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS
ARG TARGETARCH
# As `sidepass version` and the metric sidepass_build_info show them.
ARG VERSION=
ARG COMMIT=
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH release/compile /sidepass "$VERSION" "$COMMIT" \
 && cp /etc/ssl/certs/ca-certificates.crt / && mkdir /licenses && cp LICENSE /licenses/

FROM ${BASE}
COPY --from=dist --chmod=0444 /ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=dist --chmod=0444 /licenses/* /licenses/
COPY --from=dist --chmod=0555 /sidepass /sidepass
# Where a configuration may be mounted: a file sidepass.yaml here is found without being named. The environment alone will do as well.
WORKDIR /etc/sidepass
# A number, so that Kubernetes' runAsNonRoot can see that it is not root.
USER 65532:65532
# Outbound for the app, inbound for the network, metrics and health. The admin listener stays inside.
EXPOSE 8401 8402 8403
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/sidepass", "healthcheck"]
ENTRYPOINT ["/sidepass"]
