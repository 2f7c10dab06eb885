#!/bin/sh
# Downloads three.js from npm into web/vendor/: only the files that the page imports.
#
#   web/vendor.sh 0.185.1        (0.185 is the last release line with minified ES modules)
#
# Needs npm, tar, sed and sha256sum. The page has no build step and no import map (its content
# security policy forbids inline scripts), so bare imports become relative ones. VENDORED.json has
# the checksum of every file as published and as written. Running it again changes nothing.
set -eu

version=${1:?usage: web/vendor.sh VERSION}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

(cd "$work" && npm pack --silent "three@$version" >/dev/null && tar -xzf three-*.tgz)

mkdir -p "$here/vendor"
rows=
for path in LICENSE build/three.core.min.js build/three.module.min.js \
  examples/jsm/loaders/GLTFLoader.js examples/jsm/controls/OrbitControls.js \
  examples/jsm/utils/BufferGeometryUtils.js examples/jsm/utils/SkeletonUtils.js; do
  name=$(basename "$path")
  sed -e "s#from 'three';#from './three.module.min.js';#" -e "s#from '\.\./utils/#from './#" \
    "$work/package/$path" >"$here/vendor/$name"
  published=$(sha256sum "$work/package/$path" | cut -d' ' -f1)
  written=$(sha256sum "$here/vendor/$name" | cut -d' ' -f1)
  rows="$rows${rows:+,
}    {\"file\": \"$name\", \"path\": \"$path\",
     \"sha256_published\": \"$published\",
     \"sha256\": \"$written\"}"
done

cat >"$here/vendor/VENDORED.json" <<JSON
{
  "package": "three",
  "version": "$version",
  "licence": "MIT",
  "files": [
$rows
  ]
}
JSON
