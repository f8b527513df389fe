#!/usr/bin/env bash
# Runs every suite of tests and ends with one line, "N passed, N failed". Exits 1 when anything failed.
#
#   run.sh            runs all
#   run.sh NAME...    runs these suites
#
# ZEROPLANE_LONG=1 selects the long form: tests look at it for how many rounds to go, properties draw anew, the race detector is
# on for everything, and the time limits are wider. From the network, the Go module proxy is needed, and the npm registry
# once: Azurite, which the tests of tables run over, is installed into .cache (Node.js must be there).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"

# One line per suite: its name, its kind, the folder of its module, its packages. Kinds:
#   unit  the packages that do not contain the Kubernetes clients run under the race detector. The others do so
#         in the long form alone: instrumenting all of Kubernetes takes longer than the tests.
#   fuzz  fuzzes every target of the packages natively, FUZZ_EXECUTIONS together, in the long form or when it is
#         named. What the fuzzing starts from, and inputs mutated from a fixed seed, are tests of the unit suites.
#   open  is unit, for tests that still find faults in the product: in the long form or when it is named.
#   e2e   drives bin/zeroplane, which is built first; packages one at a time, and never from the cache.
# The order lets what has compiled for one suite serve the next.
suites='
tally      unit  .               ./tests/tally
azurite    unit  .               ./tests/azurite/...
infra      unit  tests/infra     ./...
core       unit  .               ./core/...
events     unit  .               ./events/...
fuzz       fuzz  .               ./events/...
adapters   unit  .               ./adapters/...
functions  unit  .               ./functions/...
kubectl    e2e   .               ./tests/kubectl/...
clients    e2e   .               ./tests/clients/...
differential e2e .               ./tests/differential/...
requests   e2e   .               ./tests/requests/...
etcd3      unit  .               ./tests/etcd3/...
oracle     e2e   .               ./tests/oracle/...
crash      e2e   .               ./tests/crash/...
clusters   e2e   .               ./tests/clusters/...
server     e2e   .               ./tests/server/...
store      e2e   .               ./tests/store/...
azure      e2e   .               ./tests/azure/...
linear     e2e   .               ./tests/linearizable/...
schedulers e2e   .               ./tests/schedulers/...
scaling    e2e   .               ./tests/autoscaling/...
perf       e2e   .               ./tests/schedulerperf/...
chaos      unit  .               ./tests/chaos/...
sim        unit  .               ./tests/sim/...
hosts      e2e   .               ./tests/functionshost/... ./tests/lambdahost/...
conformance e2e  .               ./tests/conformance/...
'

# What `make build` compiles serves the tests too, as long as both compile it in the same way.
export GOFLAGS CGO_ENABLED=0

long=${ZEROPLANE_LONG:-}
timeout=20m
if [[ $long ]]; then timeout=4h; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
summary=()
passed=0
failed=0

# has_server: of the packages given as "NAME DEPENDENCY..." lines on the input, those whose tests contain
# the Kubernetes clients, and with them most of Kubernetes.
has_server() {
  awk '{ for (i = 2; i <= NF; i++) if ($i == "k8s.io/client-go/kubernetes") { sub(/\.test$/, "", $1); print $1; next } }'
}

# run_tests SUITE FLAGS... PACKAGES...: go_test, where what properties are tried with is drawn from one seed, so that a commit that
# passed once does not fail for what others have to mend. The long form draws anew each time, and keeps looking.
run_tests() {
  local suite=$1 flags=() packages=() drawing=()
  shift
  while [[ ${1:-} == -* ]]; do flags+=("$1"); shift; done
  if [[ ! $long ]]; then
    mapfile -t packages < <(go list -f '{{.ImportPath}} {{join .TestImports " "}} {{join .XTestImports " "}}' "$@")
    mapfile -t drawing < <(printf '%s\n' "${packages[@]}" | awk '/ pgregory.net\/rapid/ { print $1 }')
    mapfile -t packages < <(printf '%s\n' "${packages[@]}" | awk '!/ pgregory.net\/rapid/ { print $1 }')
    if [[ ${#drawing[@]} -gt 0 ]]; then go_test "$suite" "${flags[@]}" "${drawing[@]}" -rapid.seed="$DRAWN_FROM"; fi
    set -- "${packages[@]}"
  fi
  if [[ $# -gt 0 ]]; then go_test "$suite" "${flags[@]}" "$@"; fi
}

# What properties are tried with in the short form.
DRAWN_FROM=${DRAWN_FROM:-1}

# go_test SUITE ARGUMENTS...: runs go test in the current folder and adds to the counts suite_passed, suite_failed and
# suite_skipped.
go_test() {
  local suite=$1 status=0 p=0 f=0 s=0
  shift
  rm -f "$work/counts"
  go test -json -timeout "$timeout" "$@" 2>"$work/stderr" | "$work/tally" -counts "$work/counts" || status=$?
  if [[ -f $work/counts ]]; then read -r p f s <"$work/counts"; fi
  if [[ $status -ne 0 && $f -eq 0 ]]; then
    # No test said so: the packages could not be loaded, or go test was killed.
    echo "FAIL $suite (go test ended with status $status)"
    f=1
  fi
  if [[ $f -gt 0 ]]; then cat "$work/stderr"; fi
  suite_passed=$((suite_passed + p)) suite_failed=$((suite_failed + f)) suite_skipped=$((suite_skipped + s))
}

# run_raced SUITE PACKAGES...: run_tests with the race detector, which needs a C compiler.
run_raced() {
  if command -v "$(go env CC)" >/dev/null; then
    CGO_ENABLED=1 run_tests "$1" -race "${@:2}"
  else
    echo "note: no C compiler, so no race detector"
    run_tests "$@"
  fi
}

# run_unit SUITE PACKAGES...: those without the Kubernetes clients with the race detector, then the others. Vet
# stays off for these, as it would look at all of Kubernetes; make lint runs it on ours.
run_unit() {
  local suite=$1 light=() heavy=()
  shift
  go list -test -f '{{if not .ForTest}}{{.ImportPath}} {{join .Deps " "}}{{end}}' "$@" | grep '^[^ ]*\.test ' >"$work/deps" || true
  mapfile -t heavy < <(has_server <"$work/deps")
  # Those without tests would be compiled for nothing, with all of Kubernetes.
  mapfile -t light < <(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' "$@" | grep -Fxv -f <(printf '%s\n' "${heavy[@]}") || true)
  if [[ ${#light[@]} -gt 0 ]]; then run_raced "$suite" -vet=off "${light[@]}"; fi
  if [[ ${#heavy[@]} -eq 0 ]]; then return; fi
  if [[ $long ]]; then
    run_raced "$suite" -vet=off "${heavy[@]}"
  else
    run_tests "$suite" -vet=off "${heavy[@]}"
  fi
}

# How often decoders are executed by the fuzzing of a suite.
FUZZ_EXECUTIONS=${FUZZ_EXECUTIONS:-10000000}

# run_fuzz SUITE PACKAGES...: one target after the other, as go test can fuzz no more than one at a time. An input
# that fails is kept in the package's testdata/fuzz, where it is a test from then on.
run_fuzz() {
  local suite=$1 package target targets=()
  shift
  for package in "$@"; do
    for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do targets+=("$package $target"); done
  done
  local each=$(((FUZZ_EXECUTIONS + ${#targets[@]} - 1) / ${#targets[@]}))
  for target in "${targets[@]}"; do
    echo "--- $target: $each executions"
    go_test "$suite" -vet=off -run '^$' -fuzz "^${target#* }\$" -fuzztime "${each}x" -fuzzminimizetime 100x "${target% *}"
  done
}

# build_zeroplane: once, before the first suite that drives it.
build_zeroplane() {
  if [[ -n ${ZEROPLANE_BIN:-} ]]; then return; fi
  echo "--- building bin/zeroplane"
  make --no-print-directory -C "$root" build
  export ZEROPLANE_BIN=$root/bin/zeroplane
}

# run_suite NAME KIND FOLDER PACKAGES...
run_suite() {
  local name=$1 kind=$2 folder=$3 start=$SECONDS packages=()
  shift 3
  suite_passed=0 suite_failed=0 suite_skipped=0
  echo "=== $name"
  if ! (cd "$folder" && go list "$@") >"$work/packages" 2>"$work/stderr" || [[ ! -s $work/packages ]]; then
    echo "FAIL $name: no packages match $* in $folder"
    cat "$work/stderr"
    suite_failed=1
  elif [[ $kind == unit || $kind == open ]]; then
    pushd "$folder" >/dev/null
    run_unit "$name" "$@"
    popd >/dev/null
  elif [[ $kind == fuzz ]]; then
    pushd "$folder" >/dev/null
    mapfile -t packages <"$work/packages"
    run_fuzz "$name" "${packages[@]}"
    popd >/dev/null
  elif ! build_zeroplane; then
    echo "FAIL $name: bin/zeroplane does not build"
    suite_failed=1
  else
    pushd "$folder" >/dev/null
    run_tests "$name" -vet=off -count=1 -p=1 "$@"
    popd >/dev/null
  fi
  if [[ $((suite_passed + suite_failed + suite_skipped)) -eq 0 ]]; then
    echo "FAIL $name: it has no tests"
    suite_failed=1
  fi
  local line="$name: $suite_passed passed, $suite_failed failed"
  if [[ $suite_skipped -gt 0 ]]; then line+=", $suite_skipped skipped"; fi
  summary+=("$line ($((SECONDS - start)) s)")
  passed=$((passed + suite_passed)) failed=$((failed + suite_failed))
}

known=" $(awk '{ printf "%s ", $1 }' <<<"$suites")"
for name in "$@"; do
  if [[ $known != *" $name "* ]]; then
    echo "run.sh: no suite is called $name (known:$known)" >&2
    exit 2
  fi
done
go build -o "$work/tally" ./tests/tally
wanted=" $* "
while read -r name kind folder packages; do
  if [[ -z $name || ($# -gt 0 && $wanted != *" $name "*) ]]; then continue; fi
  if [[ ($kind == fuzz || $kind == open) && ! $long && $# -eq 0 ]]; then continue; fi
  # Packages may be several words.
  # shellcheck disable=SC2086
  run_suite "$name" "$kind" "$folder" $packages </dev/null
done <<<"$suites"

echo
printf '%s\n' "${summary[@]}"
echo "$passed passed, $failed failed"
[[ $failed -eq 0 ]]
