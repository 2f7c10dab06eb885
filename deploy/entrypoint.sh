#!/bin/sh
# Makes the mounted folders ours, then gives up root. A bind mount that docker itself created belongs
# to root; with --user or --cap-drop=ALL there is nothing to give up, and we stay who we are.
set -eu
PATH=/opt/venv/bin:$PATH # also where a shell's own profile has set it anew
as_worker="setpriv --reuid=worker --regid=worker --init-groups --no-new-privs"

if [ -d /app/weights ] && [ "$HF_HOME" = /app/cache ]; then
  export HF_HOME=/app/weights # an image that was built with PREFETCH=1
fi

if ! [ -w "${TMPDIR:-/tmp}" ]; then # a read-only root without --tmpfs /tmp
  export TMPDIR="$JOBS_DIR/.tmp" HOME="$JOBS_DIR/.tmp"
  mkdir -p "$TMPDIR" || true
fi

if [ "$(id -u)" = 0 ]; then
  mkdir -p "$JOBS_DIR" "$HF_HOME" || true # not writable: the server says so
  # shellcheck disable=SC2086  # the words are meant to split
  if $as_worker true 2>/dev/null &&
    find "$JOBS_DIR" "$HF_HOME" ! -user worker -exec chown -h worker:worker {} + 2>/dev/null; then
    exec $as_worker "$@"
  fi
fi
exec "$@"
