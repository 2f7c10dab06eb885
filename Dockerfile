# ActionMesh Worker. Two targets:
#   docker build -t actionmesh-worker .                      ActionMesh on a CUDA GPU
#   docker build --target cpu -t actionmesh-worker:cpu .     the silhouette pipeline, no GPU
# Build arguments:
#   PYTHON_DIGEST, CUDA_DIGEST   @sha256:... to pin the base images to one digest (deploy.md)
#   GITHUB_URL                   a mirror of GitHub that has the same paths
#   RMBG_REVISION, ...           other commits of the weights, as in deploy.md's settings
#   ARCHS                        GPU generations that diso (and pytorch3d) are compiled for
#   DISO=                        leave diso out (it is CC BY-NC)
#   PYTORCH3D=1                  also build pytorch3d to render previews on the GPU (takes 30 minutes)
#   GLTFPACK=1                   add Node.js and gltfpack, for formats=compact
#   PREFETCH=1                   put the weights into the image. NEVER PUBLISH IT: see docs/THIRD_PARTY.md
# ActionMesh, RMBG and diso are noncommercial.

ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm
ARG PYTHON_DIGEST=
ARG CUDA_IMAGE=nvidia/cuda:13.0.1-devel-ubuntu24.04
ARG CUDA_DIGEST=
ARG GITHUB_URL=https://github.com

# --- packages of the CPU image: wheels only, nothing is compiled; without their tests (50 MB) and
# without those parts of onnxruntime that run no model in Python (42 MB)

FROM ${PYTHON_IMAGE}${PYTHON_DIGEST} AS packages
COPY requirements/cpu.lock /src/
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --require-hashes --only-binary :all: \
      -r /src/cpu.lock \
 && /opt/venv/bin/pip uninstall --yes setuptools \
 && find /opt/venv -depth -type d -name tests -exec rm -r {} + \
 && cd /opt/venv/lib/python3*/site-packages/onnxruntime \
 && rm -r capi/libonnxruntime.so* quantization tools transformers

# --- upstream's code; its submodule has an ssh address, which needs a key

FROM ${PYTHON_IMAGE}${PYTHON_DIGEST} AS checkout
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates git \
 && rm -rf /var/lib/apt/lists/*
ARG GITHUB_URL
ARG ACTIONMESH_COMMIT=66db12ea7c4a2ab33a2d2bbd9fffbfd1dfdce2ce
RUN git clone "$GITHUB_URL/facebookresearch/actionmesh" /src/actionmesh_repo \
 && git -C /src/actionmesh_repo checkout --quiet "$ACTIONMESH_COMMIT" \
 && git -C /src/actionmesh_repo -c url."$GITHUB_URL/".insteadOf="git@github.com:" \
      submodule update --init --recursive \
 && find /src/actionmesh_repo -name .git -prune -exec rm -rf {} +

# --- packages of the GPU image, some compiled with nvcc; CUDA 13.0 is the version of torch's wheel

FROM ${CUDA_IMAGE}${CUDA_DIGEST} AS cuda

FROM ${PYTHON_IMAGE}${PYTHON_DIGEST} AS devel
RUN apt-get update \
 && apt-get install -y --no-install-recommends g++ git ninja-build \
 && rm -rf /var/lib/apt/lists/*
COPY requirements/gpu.lock /src/
RUN python -m venv /opt/venv \
 && /opt/venv/bin/pip install --no-cache-dir --require-hashes -r /src/gpu.lock
COPY --from=cuda /usr/local/cuda /usr/local/cuda
ARG ARCHS="7.5;8.0;8.6;8.9;9.0;10.0;12.0+PTX"
ARG DISO=diso==0.1.4
ARG PYTORCH3D=0
ARG GITHUB_URL
ENV CUDA_HOME=/usr/local/cuda FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST=${ARCHS} MAX_JOBS=4
# without diso our own surface extraction is used, so a failed build is only a warning
RUN if [ -n "$DISO" ]; then \
      /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation "$DISO" \
      || echo "WARNING: $DISO was not built; the worker uses its own surface extraction" >&2; \
    fi
RUN if [ "$PYTORCH3D" = 1 ]; then \
      /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation \
        iopath portalocker "git+$GITHUB_URL/facebookresearch/pytorch3d@v0.7.9"; \
    fi

# --- the part that both images share

FROM ${PYTHON_IMAGE}${PYTHON_DIGEST} AS runtime
LABEL org.opencontainers.image.title="ActionMesh Worker" \
      org.opencontainers.image.description="A short video in, an animated 3D mesh out" \
      org.opencontainers.image.licenses="Apache-2.0 AND GPL-3.0-or-later"
ENV PATH=/opt/venv/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    PORT=8000 JOBS_DIR=/app/jobs HF_HOME=/app/cache LOG_FORMAT=json
WORKDIR /app
RUN groupadd --gid 10001 worker \
 && useradd --uid 10001 --gid worker --no-create-home --home-dir /tmp \
      --shell /usr/sbin/nologin worker \
 && install -d -o worker -g worker cache jobs
ARG GLTFPACK=0
# the version that `make gltfpack` installs; npm is not kept
RUN if [ "$GLTFPACK" = 1 ]; then \
      apt-get update \
      && apt-get install -y --no-install-recommends nodejs npm \
      && npm install --global --no-audit --no-fund gltfpack@1.3.0 \
      && apt-get purge -y --auto-remove npm \
      && rm -rf /var/lib/apt/lists/* /tmp/.npm; \
    fi
COPY . .
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
  CMD ["python", "deploy/healthcheck.py"]
ENTRYPOINT ["/app/deploy/entrypoint.sh"]
CMD ["python", "main.py"]

FROM runtime AS cpu
ENV PIPELINE=silhouette
COPY --from=packages /opt/venv /opt/venv
# the model that finds subjects, 4.6 MB, Apache-2.0: into /opt/venv, readable by all
RUN python -m subject.model_file
VOLUME ["/app/cache", "/app/jobs"]

FROM runtime AS gpu
LABEL org.opencontainers.image.licenses="Apache-2.0 AND GPL-3.0-or-later AND LicenseRef-FAIR-Noncommercial AND CC-BY-NC-4.0"
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=devel /opt/venv /opt/venv
RUN python -m subject.model_file
COPY --from=checkout /src/actionmesh_repo actionmesh_repo
ARG ACTIONMESH_REVISION=
ARG TRIPOSG_REVISION=
ARG DINOV2_REVISION=
ARG RMBG_REVISION=
ARG SAM2_REVISION=
ENV ACTIONMESH_REVISION=${ACTIONMESH_REVISION} TRIPOSG_REVISION=${TRIPOSG_REVISION} \
    DINOV2_REVISION=${DINOV2_REVISION} RMBG_REVISION=${RMBG_REVISION} \
    SAM2_REVISION=${SAM2_REVISION}
ARG PREFETCH=0
# not under /app/cache, where a mounted volume would hide the files; entrypoint.sh looks here first
RUN if [ "$PREFETCH" = 1 ]; then \
      HF_HOME=/app/weights python -m upstream.weights && chown -R worker:worker /app/weights; \
    fi
VOLUME ["/app/cache", "/app/jobs"]
