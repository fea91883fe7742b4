# Pre-training on a GPU server. The wheels of PyTorch bring CUDA; the host needs its driver and the
# NVIDIA Container Toolkit.
#   docker build --tag dinocell .
#   docker run --gpus all --shm-size 8g --volume "$PWD/runs:/runs" dinocell \
#     torchrun --standalone --nproc-per-node 8 -m napari_dinocell.core.train_ssl ssl_8gpu \
#     out=/runs/first data.sources=[/runs/manifest.parquet] model.weights=/runs/dinov3.safetensors
FROM python:3.12-slim-bookworm

# g++ is for torch.compile. The user owns what a run writes; another one: docker run --user.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --no-install-recommends --yes g++ \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 dinocell

WORKDIR /opt/napari-dinocell
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip install --no-cache-dir --constraint constraints.txt ".[train,s3,formats]"

USER 1000
WORKDIR /home/dinocell

# The loop has threads of its own. SIGTERM, which docker stop sends, makes a run write a checkpoint;
# give it time for that: docker stop --time 60.
ENV OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
STOPSIGNAL SIGTERM
CMD ["python", "-m", "napari_dinocell.core.train_ssl", "--help"]
