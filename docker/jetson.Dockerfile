# The device's side on a Jetson with JetPack 6. Build it there; what JetPack brings for Python stays as it is.
#   docker build -f docker/jetson.Dockerfile -t edgekp-jetson .
#   docker run --rm -it --runtime nvidia --device /dev/video0 -v "$PWD/runs:/edgekp/runs" edgekp-jetson \
#     deploy/run_trt.py --camera 0 --no-window --json -
# A CSI camera: add -v /tmp/argus_socket:/tmp/argus_socket and name csi://0. A window: add -e DISPLAY
# -v /tmp/.X11-unix:/tmp/.X11-unix and leave --no-window out. What is missing: docker run ... -m edgekp doctor device
FROM nvcr.io/nvidia/l4t-jetpack:r36.4.0
# nvcc compiles pycuda now and our kernels on the first start, with the C++ compiler that stays here.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends build-essential python3-dev python3-numpy python3-opencv python3-pip \
 && rm -rf /var/lib/apt/lists/*
ENV PATH=/usr/local/cuda/bin:${PATH}
# Needs no numpy of its own. Importing TensorRT needs libraries that only the runtime mounts, so it is looked for.
RUN python3 -m pip install --no-cache-dir pycuda==2026.1 \
 && python3 -c "import cv2, numpy; from importlib.util import find_spec; assert find_spec('tensorrt')"
# As the first user of a Jetson, so that engines land in runs/ with the right owner; video: cameras and the GPU.
RUN useradd --create-home --uid 1000 --groups video edgekp && install -d -o edgekp -g edgekp /edgekp/runs
WORKDIR /edgekp
COPY edgekp edgekp
COPY deploy deploy
USER 1000
ENV EDGEKP_CACHE=/edgekp/runs/.kernels PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["python3"]
CMD ["deploy/run_trt.py", "--camera", "0", "--no-window", "--json", "-"]
