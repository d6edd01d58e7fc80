# Two stages: one builds the environment from the locks and the wheel, the other holds nothing else.
#
# BASE is any image with Python 3.11 or newer as `python`; name one by digest for
# a build that can be repeated. Build: docker build --build-arg BASE=... -t meshsigner .
#
# Run it with a read-only root file system; only the volume is written:
#   docker run --read-only -v state:/var/lib/meshsigner -v ./config:/etc/meshsigner:ro meshsigner
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY requirements/build.lock requirements/runtime.lock requirements/
RUN python -m venv /opt/build \
    && /opt/build/bin/python -m pip install --no-cache-dir --require-hashes -r requirements/build.lock \
    && python -m venv /opt/meshsigner \
    && /opt/meshsigner/bin/python -m pip install --no-cache-dir --require-hashes -r requirements/runtime.lock
COPY pyproject.toml README.md LICENSE CHANGELOG.md ./
COPY src src
# The last line makes the state's directory, so that the final stage needs no step of its own.
RUN /opt/build/bin/python -m hatchling build -t wheel -d dist \
    && /opt/meshsigner/bin/python -m pip install --no-cache-dir --no-index --no-deps --find-links dist meshsigner \
    && install -d -m 0700 /opt/state

FROM ${BASE}
LABEL org.opencontainers.image.title="meshsigner" \
      org.opencontainers.image.description="Istio-compatible certificate signing server" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/meshsigner /opt/meshsigner
COPY --from=build --chown=65532:65532 /opt/state /var/lib/meshsigner
ENV PATH=/opt/meshsigner/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, not a name: Kubernetes checks runAsNonRoot on numbers only.
USER 65532:65532
WORKDIR /var/lib/meshsigner
VOLUME ["/var/lib/meshsigner"]
# 15012: certificates (TLS). 15014: probes and metrics.
EXPOSE 15012 15014
ENTRYPOINT ["meshsigner"]
CMD ["serve", "--config", "/etc/meshsigner/config.yaml"]
