# The host's side of the pipeline: train, optimize, export for any target, evaluate.
#   docker build -f docker/train.Dockerfile -t edgekp-train .
#   docker run --rm --gpus all --ipc host -v "$PWD/runs:/edgekp/runs" -v /path/to/data:/data edgekp-train \
#     train optimize export TARGET=jetson
# Without a GPU leave --gpus all out, and build with --build-arg TORCH_INDEX=... (README.md, Requirements).
FROM python:3.12-slim-bookworm
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
RUN useradd --create-home --uid 1000 edgekp && install -d -o edgekp -g edgekp /edgekp /edgekp/runs
USER 1000
WORKDIR /edgekp
# Set-up is keyed by pyproject.toml and these variables: a change of the code does not install everything again.
ARG TORCH_INDEX=
ENV EDGEKP_DATA=/data TORCH_INDEX=${TORCH_INDEX} EXTRAS=data,train,optimize,export,eval,run,modelopt,tflite
COPY --chown=edgekp pyproject.toml Makefile README.md LICENSE ./
COPY --chown=edgekp edgekp edgekp
RUN make setup
COPY --chown=edgekp . .
ENTRYPOINT ["make"]
CMD ["help"]
