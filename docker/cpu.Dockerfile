# The maintained forks on a CPU: current PyTorch, mmcv with operators.
#
#   docker build -f docker/cpu.Dockerfile -t resformer_mm:cpu .
#   docker run -it -v "$PWD/data:/resformer_mm/data" resformer_mm:cpu
#
# Versions: requirements/stacks/onedl.txt. TASKS="classification" leaves out what the other tasks need, the compiled
# operators among them.
FROM python:3.11-slim-bookworm

ARG TASKS=""
ENV VIRTUAL_ENV=/opt/venv \
    PATH=/opt/venv/bin:$PATH

RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && python -m venv "$VIRTUAL_ENV"

WORKDIR /resformer_mm
COPY . .
# TASKS is a list of words.
# hadolint ignore=SC2086
RUN PIP_NO_CACHE_DIR=1 bash tools/install.sh --stack onedl ${TASKS}
