# The host side of the pipeline: train, optimize, export for any target, evaluate. CI does not build it.
#   docker build -f docker/train.Dockerfile -t edgekp-train .
#   docker run --rm --gpus all -v "$PWD/runs:/edgekp/runs" -v /path/to/data:/data edgekp-train train optimize export TARGET=jetson
FROM python:3.12-slim
RUN apt-get update && apt-get install --yes --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /edgekp
# Set-up is keyed by pyproject.toml, so a change of the code does not install everything again.
COPY pyproject.toml Makefile README.md LICENSE ./
COPY edgekp edgekp
ARG TORCH_INDEX=
RUN make setup TORCH_INDEX=${TORCH_INDEX}
COPY . .
ENV EDGEKP_DATA=/data TORCH_INDEX=${TORCH_INDEX}
ENTRYPOINT ["make"]
CMD ["help"]
