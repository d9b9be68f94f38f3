FROM python:3.12-slim AS build
WORKDIR /src
RUN python -m venv /opt/reelhaul
ENV PATH=/opt/reelhaul/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# The lock first, so that its layer is rebuilt only when a dependency changes. Only wheels: no compiler is needed.
COPY requirements-service.lock ./
RUN pip install --require-hashes --only-binary :all: -r requirements-service.lock
COPY pyproject.toml LICENSE README.md ./
COPY worker worker
COPY producer producer
COPY reelhaul reelhaul
COPY sandbox sandbox
RUN pip install --no-deps --no-build-isolation .

FROM python:3.12-slim
RUN useradd --system --uid 10001 --no-create-home reelhaul \
    && install --directory --owner reelhaul --mode 0700 /run/reelhaul \
    && install --directory --owner reelhaul --mode 0700 /var/lib/flower
COPY --from=build /opt/reelhaul /opt/reelhaul
ENV PATH=/opt/reelhaul/bin:$PATH PYTHONUNBUFFERED=1
WORKDIR /tmp
USER reelhaul
CMD ["reelhaul", "--help"]
