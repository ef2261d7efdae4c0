# Speaker verification over HTTP, on the CPU (docs/service.md)
FROM python:3.12-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends libsndfile1 ffmpeg \
    && rm -rf /var/lib/apt/lists/*
# The CPU's PyTorch has a tenth of the size.
RUN pip install --no-cache-dir --index-url https://download.pytorch.org/whl/cpu \
    "torch>=2.11,<2.12" torchaudio==2.11.0
WORKDIR /speechbrain_scl
COPY . .
RUN pip install --no-cache-dir '.[service]' \
    && useradd --create-home service \
    && mkdir /voices && chown service /voices
USER service
ENV OMP_NUM_THREADS=1
EXPOSE 8080
HEALTHCHECK --start-period=5m CMD ["python", "-c", \
    "import urllib.request as u; u.urlopen('http://localhost:8080/health')"]
ENTRYPOINT ["python", "docs/service.py"]
CMD ["ecapa-voxceleb", "/voices/voices.npz"]
