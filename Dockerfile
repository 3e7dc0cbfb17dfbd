# syntax=docker/dockerfile:1
# predictd in an image without a shell, as nobody, on a read-only root file system (give it a writable /tmp).
#
#   docker build --tag predictd .                      # the default target: cpu
#   docker build --tag predictd:cuda --target cuda .   # NVIDIA GPUs, x86_64 only
#   docker run --read-only --tmpfs /tmp --volume ./predictd.yaml:/etc/predictd/predictd.yaml:ro predictd
#   docker run --read-only --tmpfs /tmp --publish 8080:8080 --volume ./models:/models:ro predictd serve --models /models
#
# With the argument `serve` it is a container of Vertex AI and SageMaker: docs/vertex-ai.md.
#
# The final image begins empty. scripts/image-rootfs takes the few files that predictd needs besides itself from the builder's Debian, and
# says which packages they are of, where scanners look for it. `scripts/image-tree` lays the same tree out without
# Docker, measures it, and runs it read-only.

ARG RUST=1.95
ARG DEBIAN=bookworm

FROM rust:${RUST}-slim-${DEBIAN} AS rust
# Builds the memory allocator.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends make \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /build
ENV CARGO_INCREMENTAL=0
# Identical functions are linked once, and relocations take a fortieth of their room: 1 MB. The latter needs glibc 2.36, which bookworm has.
ENV CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C link-arg=-Wl,--icf=all,-z,pack-relative-relocs"

# The dependencies alone, with empty sources in place of ours: this layer is built again only when a manifest changes.
FROM rust AS dependencies
COPY .cargo .cargo
COPY Cargo.toml Cargo.lock ./
COPY tests/bench/Cargo.toml tests/bench/
COPY tests/local-gcp/Cargo.toml tests/local-gcp/
COPY tests/slow-onnxruntime/Cargo.toml tests/slow-onnxruntime/
RUN mkdir -p src benches tests/e2e tests/bench/src tests/local-gcp/src tests/slow-onnxruntime/src \
  && touch src/lib.rs tests/e2e/main.rs tests/bench/src/lib.rs tests/local-gcp/src/lib.rs tests/slow-onnxruntime/src/lib.rs \
  && sed -n '/^\[\[bench\]\]/,/^name/s/^name = "\(.*\)"/benches\/\1.rs/p' Cargo.toml >/tmp/benches \
  && xargs touch </tmp/benches \
  && echo 'fn main() {}' >src/main.rs \
  && cargo build --profile dist --locked --package predictd --bin predictd \
  && cargo clean --profile dist --locked --package predictd

# Lists the crates in a section of the binary that survives stripping: scanners of images find them there.
FROM rust AS auditable
RUN cargo install cargo-auditable --version 0.7.7 --locked --root /out

FROM dependencies AS build
COPY --from=auditable /out/bin/cargo-auditable /usr/local/cargo/bin/
COPY src src
RUN cargo auditable build --profile dist --locked --package predictd --bin predictd \
  && mkdir /out \
  && objcopy --only-keep-debug target/dist/predictd /out/predictd.debug \
  && objcopy --strip-all --add-gnu-debuglink=/out/predictd.debug target/dist/predictd /out/predictd

# The symbols by themselves: docker build --target symbols --output type=local,dest=. .
FROM scratch AS symbols
COPY --from=build /out/predictd.debug /

# The C library, certificates, a locale, a user.
FROM rust AS rootfs
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends ca-certificates locales \
  && rm -rf /var/lib/apt/lists/*
COPY scripts/image-rootfs scripts/
RUN scripts/image-rootfs /out

FROM python:3.12-slim-${DEBIAN} AS onnxruntime
WORKDIR /fetch
COPY scripts/fetch-onnxruntime scripts/
RUN mkdir /out \
  && library=$(python3 scripts/fetch-onnxruntime) \
  && cp "$library" /out/libonnxruntime.so \
  && cp "${library%/*}/LICENSE" /out/LICENSE.onnxruntime \
  && gzip -9 -n -c "${library%/*}/ThirdPartyNotices.txt" > /out/ThirdPartyNotices.txt.gz

FROM python:3.12-slim-${DEBIAN} AS onnxruntime-cuda
WORKDIR /fetch
COPY scripts/fetch-onnxruntime scripts/cuda-requirements.txt scripts/
# The providers are looked for beside the library.
RUN mkdir /out \
  && library=$(python3 scripts/fetch-onnxruntime --cuda) \
  && cp "$library" /out/libonnxruntime.so \
  && cp "${library%/*}"/libonnxruntime_providers_*.so /out/ \
  && gzip -9 -n -c "${library%/*}/ThirdPartyNotices.txt" > /out/ThirdPartyNotices.txt.gz \
  && cp "${library%/*}/LICENSE" /out/LICENSE.onnxruntime
RUN python3 -m pip --disable-pip-version-check install --quiet --no-cache-dir --no-deps --require-hashes \
      --requirement scripts/cuda-requirements.txt --target /cuda \
  && mkdir -p /out/cuda \
  && find /cuda/nvidia -name 'lib*.so*' ! -name '*.alt.so*' -exec cp {} /out/cuda/ \;

# What every final image has.
FROM scratch AS base
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="predictd" \
      org.opencontainers.image.description="Turns Google Pub/Sub messages and HTTP requests into predictions with ONNX models that reload themselves" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=rootfs /out/ /
COPY LICENSE /opt/predictd/
COPY --from=build /out/predictd /opt/predictd/predictd
USER 65532:65532
WORKDIR /tmp
# In a container, whoever asks is outside. The environment wins over the file, so the health check finds it too. `serve` takes the port of
# AIP_HTTP_PORT or PORT instead, where a platform sets it.
ENV PREDICTD_HTTP__LISTEN=0.0.0.0:8080
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["/opt/predictd/predictd", "ready"]
ENTRYPOINT ["/opt/predictd/predictd"]
CMD ["run", "--config", "/etc/predictd/predictd.yaml"]

FROM base AS cuda
# The driver's libcuda.so.1 is mounted when the container starts: by GKE and Cloud Run in /usr/local/nvidia/lib64, by NVIDIA's container
# toolkit where it takes the libraries of this system, or those of the host, to be. Without a shell or ldconfig, nothing else finds it.
ENV LD_LIBRARY_PATH=/opt/predictd/cuda:/usr/local/nvidia/lib64:/usr/lib/x86_64-linux-gnu:/usr/lib64 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=onnxruntime-cuda /out/ /opt/predictd/

# For compose.yaml: Pub/Sub and Cloud Storage in memory, no part of the worker.
FROM dependencies AS build-local-gcp
COPY tests/local-gcp tests/local-gcp
RUN find tests/local-gcp -name '*.rs' -exec touch {} + \
  && cargo build --release --locked --package local-gcp --bin local-gcp

FROM scratch AS local-gcp
COPY --from=rootfs /out/ /
COPY --from=build-local-gcp /build/target/release/local-gcp /opt/local-gcp
USER 65532:65532
EXPOSE 8085
STOPSIGNAL SIGTERM
ENTRYPOINT ["/opt/local-gcp"]
CMD ["--listen", "0.0.0.0:8085"]

# Last, so that it is what `docker build .` makes.
FROM base AS cpu
COPY --from=onnxruntime /out/ /opt/predictd/
