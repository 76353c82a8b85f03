# Stays within the classic builder's subset: no frontend to pull, nothing but FROM, COPY and RUN.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
WORKDIR /src
COPY scripts/requirements.txt scripts/requirements-build.txt ./
# Two environments, so that the one that ships has neither pip nor the build backend in it.
RUN python -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes -r requirements-build.txt \
    && python -m venv --without-pip /opt/claimwork \
    && /opt/build/bin/pip --python /opt/claimwork/bin/python install --no-cache-dir --require-hashes -r requirements.txt
COPY pyproject.toml ./
COPY claimwork ./claimwork
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && /opt/build/bin/pip --python /opt/claimwork/bin/python install --no-deps --no-index /wheels/*.whl

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="claimwork" \
      org.opencontainers.image.description="Turns a shared mount into a work queue" \
      org.opencontainers.image.version="0.1.0"
# The root may be read-only, so nothing is compiled at run time and everything is compiled here. The base image comes
# without its bytecode: each child process would pay for that. Some of its files are not meant to compile, hence `true`.
RUN python -m compileall -q "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" >/dev/null || true
# A fixed number, for mounts know numbers and not names; a passwd entry, for programs that ask who they are.
RUN echo 'claimwork:x:10001:10001::/app:/usr/sbin/nologin' >>/etc/passwd \
    && echo 'claimwork:x:10001:' >>/etc/group \
    && mkdir -p /app/data /app/output \
    && chown 10001:10001 /app/data /app/output
COPY --from=build /opt/claimwork /opt/claimwork
ENV PATH=/opt/claimwork/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CLAIMWORK_INPUT=/app/data \
    CLAIMWORK_OUTPUT=/app/output
WORKDIR /app
USER 10001:10001
STOPSIGNAL SIGTERM
# Looks at the worker and never at the mount. What it means, and why nothing is lost by it: docs/swarm.md.
HEALTHCHECK --interval=10s --timeout=10s --start-period=20s --retries=3 CMD ["claimwork", "healthy"]
ENTRYPOINT ["claimwork"]
# One worker does the whole job: it creates the job if there is none, and reduces at the end.
CMD ["worker"]
