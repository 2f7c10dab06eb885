#!/bin/sh
# Makes the mounted folders ours, then gives up root. A bind mount that docker itself created belongs
# to root; with --user, a read-only root or --cap-drop=ALL there is nothing to give up.
set -eu
if [ "$(id -u)" = 0 ]; then
  mkdir -p "$JOBS_DIR" "$HF_HOME"
  # without CAP_CHOWN we stay who we are
  if chown worker:worker "$JOBS_DIR" "$HF_HOME" 2>/dev/null &&
    setpriv --reuid=worker --regid=worker --init-groups true 2>/dev/null; then
    exec setpriv --reuid=worker --regid=worker --init-groups --no-new-privs "$@"
  fi
fi
exec "$@"
