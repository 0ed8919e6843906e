# moslens serve in a container: the wheel is built in the first stage, the second has nothing but it and its needs.
#
#     docker build -t moslens .
#     docker run --rm -p 127.0.0.1:8000:8000 --read-only --cap-drop ALL --security-opt no-new-privileges moslens

FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY src ./src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
# mounted, not copied: a layer keeps what a later one removes
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir "$(ls /wheels/moslens-*.whl)[serve,formats]" \
    && useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin moslens
# PYTHONDONTWRITEBYTECODE: the service runs on a file system that it may only read.
# MALLOC_ARENA_MAX: fewer heaps for the worker threads, so that freed pictures are used again.
ENV PYTHONDONTWRITEBYTECODE=1 MALLOC_ARENA_MAX=2
USER 10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=20s CMD ["python", "-c", \
    "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
# Inside a container loopback is the container's own: it must listen on all of its addresses to be reached.
ENTRYPOINT ["moslens", "serve", "--host", "0.0.0.0", "--port", "8000"]
