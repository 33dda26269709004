# One image for every line of the Procfile; docker-compose.yml says which container runs which.

FROM python:3.13-slim AS build
WORKDIR /app
RUN python -m venv /opt/fleet
COPY requirements/runtime.txt requirements/
RUN /opt/fleet/bin/pip install --no-cache-dir --require-hashes -r requirements/runtime.txt

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin fleet
COPY --from=build /opt/fleet /opt/fleet
WORKDIR /app
COPY Procfile alembic.ini ./
COPY client client
COPY migrations migrations
COPY broker broker
COPY models models
COPY fanout fanout
COPY history history
COPY reviews reviews
COPY sessions sessions
COPY schedules schedules
COPY tasks tasks
COPY workers workers
ENV PATH=/opt/fleet/bin:$PATH \
    PYTHONPATH=/app:/app/client \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
USER fleet
STOPSIGNAL SIGTERM
CMD ["sh", "-c", "exec python -m workers.migrate"]
