#!/usr/bin/env bash
# Builds the real components that zeroplane is tested and measured against, from Go modules, into
# $ZEROPLANE_PEERS (default: .cache/peers at the root of the repository). A binary whose module files and
# Go version did not change since it was built is left alone.
#
#   build.sh            builds all
#   build.sh NAME...    builds these: etcd kube-apiserver kube-controller-manager kube-scheduler kubectl kwok, and
#                       scheduler_perf.FOLDER, the benchmark of a folder of upstream's test/integration/scheduler_perf,
#                       which is built by name alone, as is
#                       e2e.test, Kubernetes' end-to-end suite with the conformance tests
#
# A first build of all takes about six minutes on two cores.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${ZEROPLANE_PEERS:-$(cd "$here/../.." && pwd)/.cache/peers}
all=(kubectl etcd kwok kube-apiserver kube-controller-manager kube-scheduler)

# Without these the components report the version v0.0.0-master and clients that compare versions complain.
kubernetes=$(sed -n 's/^require k8s.io\/kubernetes v//p' "$here/go.mod")
stamp=k8s.io/component-base/version
kubernetes_flags="-X $stamp.gitVersion=v$kubernetes -X $stamp.gitMajor=1 -X $stamp.gitMinor=$(cut -d. -f2 <<<"$kubernetes") -X $stamp.gitTreeState=clean"

# build_one NAME: one line of progress, and the binary moved into place only when it is whole.
build_one() {
  local name=$1 dir package flags="" build=(build)
  case $name in
    etcd) dir=$here/etcd package=. ;;
    kwok) dir=$here/kwok package=sigs.k8s.io/kwok/cmd/kwok ;;
    kube-apiserver | kube-controller-manager | kube-scheduler | kubectl)
      dir=$here package=k8s.io/kubernetes/cmd/$name flags=$kubernetes_flags ;;
    scheduler_perf.*)
      dir=$here package=k8s.io/kubernetes/test/integration/scheduler_perf/${name#*.} flags=$kubernetes_flags build=(test -vet=off -c) ;;
    e2e.test)
      dir=$here/conformance package=k8s.io/kubernetes/test/e2e flags=$kubernetes_flags build=(test -vet=off -c) ;;
    *) echo "build.sh: unknown component $name (known: ${all[*]} e2e.test scheduler_perf.*)" >&2; return 2 ;;
  esac
  local key
  key=$( (go version; echo "$flags"; cat "$dir/go.mod" "$dir/go.sum") | sha256sum | cut -c1-16)
  if [[ -x $out/$name && $(cat "$out/$name.key" 2>/dev/null) == "$key" ]]; then
    echo "peers: $name is built"
    return
  fi
  echo "peers: building $name ..."
  local start=$SECONDS
  (cd "$dir" && go "${build[@]}" -ldflags "$flags" -o "$out/$name.new" "$package")
  mv "$out/$name.new" "$out/$name"
  echo "$key" >"$out/$name.key"
  echo "peers: built $name in $((SECONDS - start)) s"
}

mkdir -p "$out"
# Two builds at once (a test and a benchmark, say) would do the same work twice.
exec 9>"$out/.lock"
flock 9
names=("$@")
if [[ ${#names[@]} -eq 0 ]]; then
  names=("${all[@]}")
fi
for name in "${names[@]}"; do
  build_one "$name"
done
echo "peers: all in $out"
