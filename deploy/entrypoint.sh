#!/bin/sh
# Gives the mounted folders to the user `worker`, then runs the command as that user. A bind mount that
# docker itself created belongs to root. With --user or --cap-drop=ALL the user stays as it is.
set -eu
PATH=/opt/venv/bin:$PATH # a login shell's profile may have replaced it
as_worker="setpriv --reuid=worker --regid=worker --init-groups --no-new-privs"

if [ -d /app/weights ] && [ "$HF_HOME" = /app/cache ]; then
  # an image built with PREFETCH=1; only the weights: HF_HOME must be writable
  export HF_HUB_CACHE=/app/weights/hub
fi

if ! [ -w "${TMPDIR:-/tmp}" ]; then # a read-only root without --tmpfs /tmp
  export TMPDIR="$JOBS_DIR/.tmp" HOME="$JOBS_DIR/.tmp"
  mkdir -p "$TMPDIR" || true
fi

if [ "$(id -u)" = 0 ]; then
  mkdir -p "$JOBS_DIR" "$HF_HOME" || true # if not writable, the server reports it
  # shellcheck disable=SC2086  # the words are meant to split
  if $as_worker true 2>/dev/null &&
    find "$JOBS_DIR" "$HF_HOME" ! -user worker -exec chown -h worker:worker {} + 2>/dev/null; then
    exec $as_worker "$@"
  fi
fi
exec "$@"
