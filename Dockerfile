# The GPU lane: verl 0.9.1 with vLLM, and mllm4d-verl. docs/install.md says how to build and run it.
#
#   docker build -t mllm4d-verl .
#   docker run --gpus all --shm-size=64g --user "$(id -u):$(id -g)" -v "$PWD:/workspace" -v mllm4d-cache:/cache mllm4d-verl \
#     mllm4d doctor --attention sdpa

# torch 2.11.0 on PyPI is built for CUDA 13.0. vLLM and Triton compile kernels at run time, flash-attn while it is installed:
# these need the compiler of the `devel` image.
ARG CUDA_IMAGE=nvidia/cuda:13.0.2-devel-ubuntu24.04
FROM ${CUDA_IMAGE}

# Ubuntu 24.04 has Python 3.12. ffmpeg is for torchcodec and for videos that OpenCV cannot read.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        build-essential ffmpeg git python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

ENV PATH=/opt/venv/bin:$PATH \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python3 -m venv /opt/venv

# verl and its pins first: this layer is the large one, and changes only with pyproject.toml.
WORKDIR /opt/mllm4d-verl
COPY pyproject.toml README.md LICENSE ./
COPY packaging/extra_requirements.py packaging/extra_requirements.py
RUN python packaging/extra_requirements.py gpu naming > /tmp/requirements.txt \
    && pip install --only-binary :all: -r /tmp/requirements.txt

# The second step: --build-arg FLASH_ATTN=2.8.3 compiles flash-attn, which takes long and 4 GB of memory per job. Without it,
# train with +attention=sdpa. TORCH_CUDA_ARCH_LIST and FLASH_ATTN_CUDA_ARCHS choose the GPUs; 90 is H100 and H200.
ARG FLASH_ATTN=
ARG FLASH_ATTN_CUDA_ARCHS=90
ARG MAX_JOBS=8
RUN if [ -n "$FLASH_ATTN" ]; then \
      pip install ninja \
      && FLASH_ATTN_CUDA_ARCHS="$FLASH_ATTN_CUDA_ARCHS" MAX_JOBS="$MAX_JOBS" \
         pip install --no-build-isolation "flash-attn==$FLASH_ATTN"; \
    fi

COPY mllm4d_verl mllm4d_verl
COPY reward reward
COPY data_tools data_tools
COPY recipes recipes
COPY launch launch
RUN pip install --no-deps . && python -c "import mllm4d_verl.reward"

# Any user id may run the image: what is written lies in folders that all may write.
ENV HOME=/workspace \
    HF_HOME=/cache/huggingface \
    VLLM_CACHE_ROOT=/cache/vllm \
    TRITON_CACHE_DIR=/cache/triton \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor
RUN useradd --uid 1001 --create-home mllm4d && mkdir -p /workspace /cache && chmod 1777 /workspace /cache
VOLUME /cache
WORKDIR /workspace
USER mllm4d
CMD ["mllm4d", "doctor", "--attention", "sdpa"]
