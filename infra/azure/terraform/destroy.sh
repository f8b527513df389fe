#!/usr/bin/env bash
# Removes what deploy.sh beside it deployed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [[ ${1:-} == --help || ${1:-} == -h ]]; then
  cat <<'USAGE'
usage: infra/azure/terraform/destroy.sh [ARGUMENTS OF destroy...]

All clusters in the table are lost. To keep them, first: bin/zeroplane store export (docs/backup.md).
The vault can be had back for 90 days: az keyvault recover --name VAULT
USAGE
  exit
fi
tf=$(command -v terraform || command -v tofu) || {
  echo "destroy.sh: neither terraform nor tofu is here" >&2
  exit 1
}
[[ -d .terraform ]] || {
  echo "destroy.sh: nothing was deployed from here" >&2
  exit 1
}
TF_VAR_subscription_id=${TF_VAR_subscription_id:-$(az account show --query id --output tsv)}
export TF_VAR_subscription_id TF_VAR_seal_key=unused
exec "$tf" destroy "$@"
