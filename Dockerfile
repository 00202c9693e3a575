# The project, installed for the CPU; `docker run` builds everything:
#   docker build -t jat . && docker run --shm-size=2g -v jat:/home/jat/project/artifacts jat
# Another build of torch: docker build --build-arg TORCH=cu130 …
FROM python:3.11-slim
ARG TORCH=cpu
# MuJoCo draws without a display by EGL.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends make libegl1 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home jat \
    && install --directory --owner=jat /home/jat/project
USER jat
WORKDIR /home/jat/project
ENV PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1
COPY --chown=jat . .
RUN make setup PYTHON=python3.11 TORCH=$TORCH
ENV PATH=/home/jat/project/.venv/bin:$PATH
CMD ["make", "repro"]
