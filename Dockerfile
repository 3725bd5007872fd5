# Images of the job service. The last stage is the usual one; `--target cuda` reads slides on a GPU.
#
#   docker build --tag qupath-bridge .
#   docker build --tag qupath-bridge:cuda --target cuda .

ARG PYTHON=3.12.11-slim-bookworm
# The base without libraries: those that are needed come with the packages of Python.
ARG CUDA=12.6.3-base-ubuntu24.04

# --- what is installed -----------------------------------------------------------------------------

FROM python:${PYTHON} AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY deploy/constraints.txt ./deploy/constraints.txt
COPY qupath_bridge ./qupath_bridge
COPY groovy_scripts ./groovy_scripts
COPY example_projects/skin ./example_projects/skin
RUN python -m venv --without-pip /opt/bridge \
 && pip --python /opt/bridge/bin/python install --no-cache-dir --constraint deploy/constraints.txt \
    ".[service,cloud,folds,h5,telemetry]"

FROM nvidia/cuda:${CUDA} AS build-cuda
# Versions of the distribution's packages are those of its image: old ones leave its servers.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 python3-pip \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY deploy/constraints.txt ./deploy/constraints.txt
COPY qupath_bridge ./qupath_bridge
COPY groovy_scripts ./groovy_scripts
COPY example_projects/skin ./example_projects/skin
RUN python3 -m venv --without-pip /opt/bridge \
 && pip --python /opt/bridge/bin/python install --no-cache-dir --constraint deploy/constraints.txt \
    ".[service,cloud,folds,h5,telemetry,cucim]"

# --- with a GPU ------------------------------------------------------------------------------------

FROM nvidia/cuda:${CUDA} AS cuda
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3 \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --user-group --create-home --key HOME_MODE=0755 --shell /usr/sbin/nologin bridge
COPY --from=build-cuda /opt/bridge /opt/bridge
ENV PATH=/opt/bridge/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    QUPATH_BRIDGE_HOST=0.0.0.0 \
    QUPATH_BRIDGE_LOG_FORMAT=json
USER 10001:10001
WORKDIR /home/bridge
EXPOSE 8350
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8350/health', timeout=4)"]
ENTRYPOINT ["qupath-bridge"]
CMD ["service", "api"]

# --- without ---------------------------------------------------------------------------------------

FROM python:${PYTHON} AS cpu
RUN useradd --uid 10001 --user-group --create-home --key HOME_MODE=0755 --shell /usr/sbin/nologin bridge
COPY --from=build /opt/bridge /opt/bridge
ENV PATH=/opt/bridge/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    QUPATH_BRIDGE_HOST=0.0.0.0 \
    QUPATH_BRIDGE_LOG_FORMAT=json
USER 10001:10001
WORKDIR /home/bridge
EXPOSE 8350
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8350/health', timeout=4)"]
ENTRYPOINT ["qupath-bridge"]
CMD ["service", "api"]
