# Wordmill as images. The last stage is the one that serves; others are asked for by --target:
#
#   docker build -t wordmill .                                     serve and worker
#   docker build -t wordmill:cpu --build-arg VARIANT=cpu .         with the extra `cpu` (or `torch`)
#   docker build -t wordmill-consumer --target consumer .          the consumer alone, a static binary
#   docker build -t wordmill-test --target test . && docker run --rm wordmill-test
#
# docs/deployment.md says more.
ARG PYTHON=3.12
ARG RUST=1.95

FROM rust:${RUST}-slim-bookworm AS rust

FROM python:${PYTHON}-slim-bookworm AS python
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1

# ---- what builds: Python, Rust, a C compiler, uv
FROM python AS tools
ARG UV=0.13.8
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates gcc git libc6-dev make musl-tools \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir "uv==${UV}"
COPY --from=rust /usr/local/cargo /usr/local/cargo
COPY --from=rust /usr/local/rustup /usr/local/rustup
ENV CARGO_HOME=/usr/local/cargo \
    RUSTUP_HOME=/usr/local/rustup \
    PATH=/usr/local/cargo/bin:$PATH \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy
WORKDIR /src

# ---- to work on it: everything, the tools of the tests too
FROM tools AS development
COPY . .
RUN make install
ENV WORDMILL_HOST=0.0.0.0
EXPOSE 8501
CMD ["make", "serve"]

# ---- the proof, with real servers
FROM development AS test
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        chromium libreoffice-math-nogui libreoffice-writer-nogui maven openjdk-17-jdk-headless \
        postgresql procps rabbitmq-server redis-server \
    && rm -rf /var/lib/apt/lists/* \
    && scripts/get-elasticsearch
CMD ["make", "test"]

# ---- the consumer: linked without a C library, so that it runs in an empty image
FROM tools AS build-consumer
COPY . .
RUN target="$(uname -m)-unknown-linux-musl" \
    && rustup target add "$target" \
    && cargo build --release --locked --package wordmill-consumer --target "$target" \
    && install -D "target/$target/release/wordmill-consumer" /out/wordmill-consumer

FROM scratch AS consumer
COPY --from=build-consumer /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build-consumer /out/wordmill-consumer /usr/local/bin/wordmill-consumer
ENV PATH=/usr/local/bin \
    WORDMILL_HOME=/data
USER 10001:10001
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["wordmill-consumer", "--check"]
ENTRYPOINT ["wordmill-consumer"]

# ---- what is installed to serve: the locked dependencies first, they change least
FROM tools AS build
ARG VARIANT=base
ARG EXTRAS="web scale tokenizers telemetry matrix discord documents"
ENV UV_PROJECT_ENVIRONMENT=/opt/wordmill
COPY pyproject.toml uv.lock ./
RUN if [ "$VARIANT" = base ]; then VARIANT=; fi; \
    for extra in $EXTRAS $VARIANT; do set -- "$@" --extra "$extra"; done; \
    uv sync --locked --no-dev --no-install-project "$@"
COPY . .
RUN if [ "$VARIANT" = base ]; then VARIANT=; fi; \
    for extra in $EXTRAS $VARIANT; do set -- "$@" --extra "$extra"; done; \
    uv sync --locked --no-dev --no-editable "$@"

# ---- what serves
FROM python AS production
COPY --from=build /opt/wordmill /opt/wordmill
COPY --from=build-consumer /out/wordmill-consumer /usr/local/bin/wordmill-consumer
RUN install -d -o 10001 -g 10001 -m 700 /data
ENV PATH=/opt/wordmill/bin:$PATH \
    HOME=/tmp \
    WORDMILL_HOME=/data \
    WORDMILL_HOST=0.0.0.0 \
    WORDMILL_LOG_FORMAT=json
WORKDIR /data
USER 10001:10001
VOLUME /data
EXPOSE 8501
HEALTHCHECK --interval=15s --timeout=10s --start-period=60s --retries=3 \
    CMD ["wordmill", "health"]
CMD ["wordmill", "serve", "--no-open"]
