# The sidepass image: one static binary and the CA roots, nothing else. It takes no arguments, runs as nobody in particular, and writes nothing:
# its root may be read-only.
#
#   docker build -t sidepass .
#
# With a binary that you built yourself, nothing is pulled and no network is needed: the folder dist/ stands in for the stage of that name.
#
#   mkdir -p dist && cp /etc/ssl/certs/ca-certificates.crt dist/
#   CGO_ENABLED=0 GOOS=linux go build -trimpath -o dist/sidepass \
#     -ldflags "-s -w -X main.buildVersion=$(git describe --tags --always) -X main.buildCommit=$(git rev-parse HEAD)" ./cmd/sidepass
#   docker build --build-context dist=dist -t sidepass .

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
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath \
      -ldflags "-s -w -X main.buildVersion=$VERSION -X main.buildCommit=$COMMIT" -o /sidepass ./cmd/sidepass \
 && cp /etc/ssl/certs/ca-certificates.crt /

FROM ${BASE}
COPY --from=dist --chmod=0444 /ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=dist --chmod=0555 /sidepass /sidepass
# Where a configuration may be mounted: a file sidepass.yaml here is found without being named. The environment alone will do as well.
WORKDIR /etc/sidepass
# A number, so that Kubernetes' runAsNonRoot can see that it is not root.
USER 65532:65532
# Outbound for the app, inbound for the network, metrics and health. The admin listener stays inside.
EXPOSE 8401 8402 8403
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["/sidepass", "healthcheck"]
ENTRYPOINT ["/sidepass"]
