# Ray, vLLM and the serving code for head and workers, with the Harmony vocabulary inside. No root.
#
# The context is a folder of a bundle, build/engine; nothing else is read and no network is needed:
#   docker build --network=none --build-arg PYTHON_IMAGE=registry.example.com/python@sha256:… BUNDLE/build/engine
# PYTHON_IMAGE: a Debian or Ubuntu image with Python 3.11 or 3.12, its headers and venv, by digest. CUDA's libraries come as
# wheels; the driver's come from the node. KubeRay needs bash, ray and wget in it; Triton compiles its launchers with gcc.
ARG PYTHON_IMAGE
FROM ${PYTHON_IMAGE}

ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="gpt-oss-cluster engine" \
      org.opencontainers.image.description="gpt-oss replicas: Ray Serve and vLLM" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

RUN groupadd --gid 10001 gpt-oss \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /cache --shell /bin/bash gpt-oss \
 && install --directory --owner=10001 --group=10001 /cache
RUN --mount=type=bind,target=/build \
    dpkg --install /build/debs/*.deb \
 && command -v bash wget gcc
RUN python3 -m venv /opt/gpt-oss-cluster
RUN --mount=type=bind,target=/build \
    /opt/gpt-oss-cluster/bin/pip install --no-cache-dir --no-index --find-links=/build/wheels --require-hashes --requirement=/build/requirements.lock
RUN --mount=type=bind,target=/build \
    /opt/gpt-oss-cluster/bin/pip install --no-cache-dir --no-index --no-deps /build/project/*.whl
COPY vocabulary/o200k_base.tiktoken /opt/gpt-oss/vocabulary/o200k_base.tiktoken

# /usr/local/bin too: a login shell, which KubeRay may use, sets a PATH of its own.
ENV PATH=/opt/gpt-oss-cluster/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/cache \
    TIKTOKEN_ENCODINGS_BASE=/opt/gpt-oss/vocabulary \
    RAY_USAGE_STATS_ENABLED=0 \
    RAY_USAGE_STATS_REPORT_URL=http://127.0.0.1:9 \
    VLLM_NO_USAGE_STATS=1 \
    DO_NOT_TRACK=1 \
    HF_HUB_OFFLINE=1 \
    TRANSFORMERS_OFFLINE=1
RUN chmod 0644 /opt/gpt-oss/vocabulary/o200k_base.tiktoken \
 && ln -s /opt/gpt-oss-cluster/bin/ray /opt/gpt-oss-cluster/bin/gpt-oss-cluster /usr/local/bin/ \
 && ray --version \
 && python -c 'import importlib.metadata as m; m.version("vllm")' \
 && python -c 'from cluster.serving.checkpoint import require_vocabulary; require_vocabulary(None)' \
 && bash --login -c 'ray --version'
USER 10001:10001
