# ActionMesh Worker. Two targets:
#   docker build --target cpu -t actionmesh-worker:cpu .     the silhouette pipeline, no GPU
#   docker build -t actionmesh-worker .                      ActionMesh on a CUDA GPU
# The GPU image clones upstream at its pinned commit; weights are downloaded at the first start into
# /app/cache. Licences: THIRD_PARTY.md (ActionMesh and RMBG are noncommercial).

ARG PYTHON_IMAGE=python:3.11-slim-bookworm

FROM ${PYTHON_IMAGE} AS cpu
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    PORT=8000 JOBS_DIR=/app/jobs HF_HOME=/app/cache LOG_FORMAT=json
WORKDIR /app
RUN useradd --system --uid 10001 --home-dir /app --shell /usr/sbin/nologin worker
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
VOLUME ["/app/cache", "/app/jobs"]
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s \
  CMD ["python", "-c", "import os,urllib.request as u; u.urlopen('http://127.0.0.1:'+os.environ['PORT']+'/health', timeout=4)"]
ENTRYPOINT ["/app/deploy/entrypoint.sh"]
CMD ["python", "main.py"]
LABEL org.opencontainers.image.title="ActionMesh Worker" \
      org.opencontainers.image.licenses="Apache-2.0"

FROM cpu AS gpu
ARG ACTIONMESH_COMMIT=66db12ea7c4a2ab33a2d2bbd9fffbfd1dfdce2ce
RUN apt-get update && apt-get install -y --no-install-recommends git \
 && git clone https://github.com/facebookresearch/actionmesh actionmesh_repo \
 && git -C actionmesh_repo checkout --quiet "$ACTIONMESH_COMMIT" \
 && git -C actionmesh_repo -c url."https://github.com/".insteadOf="git@github.com:" \
      submodule update --init --recursive \
 && apt-get purge -y git && apt-get autoremove -y && rm -rf /var/lib/apt/lists/*
COPY requirements-actionmesh.txt .
RUN pip install --no-cache-dir -r requirements-actionmesh.txt
