#!/usr/bin/env bash
# Writes the admin's kubeconfig of a zeroplane that runs on function hosts.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'USAGE'
usage: infra/kubeconfig.sh URL FILE

  URL   where the plane is, as https://zeroplane-abc.azurewebsites.net
  FILE  the kubeconfig to write (mode 0600); it must not be there yet

The credential is sealed in the table. So it needs bin/zeroplane (make build), $ZEROPLANE_SEAL_KEY, and the store's
credentials (docs/azure-tables.md). It serves from the table for a moment on this machine, which makes the default
cluster if there is none, and takes the kubeconfig of that server, with the URL in place of its own.
USAGE
}

fail() {
  printf '%s\n' "kubeconfig.sh: $1" "${@:2}" >&2
  exit 1
}

if [[ ${1:-} == --help || ${1:-} == -h ]]; then
  usage
  exit
fi
[[ $# -eq 2 ]] || fail "it takes a URL and a file" "infra/kubeconfig.sh --help says more"
url=${1%/}
file=$2
zeroplane=${ZEROPLANE_BIN:-bin/zeroplane}
[[ $url == https://* ]] || fail "$url is no https:// URL; credentials are not sent without TLS"
[[ ! -e $file ]] || fail "$file is there already"
[[ -x $zeroplane ]] || fail "$zeroplane is missing" "type: make build"
[[ ${ZEROPLANE_SEAL_KEY:-} ]] || fail "ZEROPLANE_SEAL_KEY is not set" "the scripts that deploy print how to get it"

umask 077
data=$(mktemp -d)
server=
# stop ends the server that was started here, and removes its files.
stop() {
  if [[ $server ]] && kill "$server" 2>/dev/null; then wait "$server" || true; fi
  rm -rf "$data"
}
trap stop EXIT

"$zeroplane" serve --store azure --data "$data" --listen 127.0.0.1:0 >"$data/log" 2>&1 &
server=$!
for _ in $(seq 300); do
  if grep -q '^zeroplane serves' "$data/log"; then break; fi
  kill -0 "$server" 2>/dev/null || fail "the store could not be served from" "$(cat "$data/log")"
  sleep 0.2
done
[[ -s $data/kubeconfig ]] || fail "no kubeconfig came within a minute" "$(cat "$data/log")"

export KUBECONFIG=$data/kubeconfig
"$zeroplane" kubectl config set-cluster zeroplane --server="$url" >/dev/null
# The host's front end has a certificate of a public authority.
"$zeroplane" kubectl config unset clusters.zeroplane.certificate-authority-data >/dev/null
cp "$data/kubeconfig" "$file"
echo "wrote $file; try: bin/zeroplane kubectl --kubeconfig $file get namespaces"
