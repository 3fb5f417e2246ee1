# The gateway, the prefetch Job and the start checks: Python, locked packages, this project. No Ray, no compiler, no root.
#
# The context is a folder of a bundle, build/gateway; nothing else is read and no network is needed:
#   docker build --network=none --build-arg PYTHON_IMAGE=registry.example.com/python@sha256:… BUNDLE/build/gateway
# PYTHON_IMAGE: a Debian or Ubuntu image with Python 3.11 or 3.12 and venv, by digest, such as the official slim one.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gpt-oss-cluster gateway" \
      org.opencontainers.image.description="OpenAI's API in front of gpt-oss replicas on Ray Serve" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

RUN groupadd --gid 10001 gpt-oss \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin gpt-oss
RUN python3 -m venv /opt/gpt-oss-cluster
RUN --mount=type=bind,target=/build \
    /opt/gpt-oss-cluster/bin/pip install --no-cache-dir --no-index --find-links=/build/wheels --require-hashes --requirement=/build/requirements.lock
RUN --mount=type=bind,target=/build \
    /opt/gpt-oss-cluster/bin/pip install --no-cache-dir --no-index --no-deps /build/project/*.whl
RUN /opt/gpt-oss-cluster/bin/pip check \
 && /opt/gpt-oss-cluster/bin/pip uninstall --yes pip \
 && ln -s /opt/gpt-oss-cluster/bin/gpt-oss-cluster /usr/local/bin/gpt-oss-cluster \
 && gpt-oss-cluster gateway --help > /dev/null

ENV PATH=/opt/gpt-oss-cluster/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    DO_NOT_TRACK=1 \
    HF_HUB_OFFLINE=1
USER 10001:10001
ENTRYPOINT ["gpt-oss-cluster"]
CMD ["gateway"]
