# The workflow and all that it needs, with CUDA's libraries; the driver is the host's.
#   docker build -t oba .
#   docker run --rm --gpus all --shm-size 8g -v "$PWD/results:/opt/oba/results" -v /data:/data:ro oba run config/config.yaml
FROM python:3.12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /opt/oba
COPY pyproject.toml requirements.lock ./
RUN pip install --no-cache-dir -r requirements.lock
COPY . .
RUN pip install --no-cache-dir --no-deps --editable .
ENTRYPOINT ["oba"]
CMD ["run"]
