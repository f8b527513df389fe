#!/usr/bin/env bash
# Deploys zeroplane to Azure with Terraform or OpenTofu, or brings a deployment up to date.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

usage() {
  cat <<'USAGE'
usage: infra/azure/terraform/deploy.sh [ARGUMENTS OF apply...]

Variables (variables.tf) come from a file terraform.tfvars here, from TF_VAR_NAME, or as -var NAME=VALUE.
With $ZEROPLANE_WEBHOOK_TOKEN set, bells also travel through Event Grid to the webhook (docs/deploy-azure.md).

It needs Terraform 1.11 or OpenTofu 1.11; the Azure CLI, signed in as an owner of the subscription; openssl; and what
`make build` needs. The state is kept here, in terraform.tfstate, unless you add a backend: keep it.
To remove everything: infra/azure/terraform/destroy.sh
USAGE
}

say() { printf '%s\n' "--- $*"; }
fail() {
  printf '%s\n' "deploy.sh: $1" "${@:2}" >&2
  exit 1
}
if [[ ${1:-} == --help || ${1:-} == -h ]]; then
  usage
  exit
fi

say "checking what is needed"
tf=$(command -v terraform || command -v tofu) || fail "neither terraform nor tofu is here" "install one: https://opentofu.org/docs/intro/install"
command -v az >/dev/null || fail "the Azure CLI is missing" "install it: https://learn.microsoft.com/cli/azure/install-azure-cli"
for tool in openssl curl go make; do
  command -v "$tool" >/dev/null || fail "$tool is missing" "install it with the system's package manager"
done
TF_VAR_subscription_id=${TF_VAR_subscription_id:-$(az account show --query id --output tsv 2>/dev/null)} || fail "the Azure CLI is not signed in" "type: az login"
# Used when the secret is made, and at no later time.
TF_VAR_seal_key=$(openssl rand -base64 32)
export TF_VAR_subscription_id TF_VAR_seal_key

say "building the package"
make --no-print-directory -C ../../.. package-azure

say "applying"
"$tf" init -input=false
# The subscription is made last, and is kept out of this first run only when there is no app yet.
if [[ -n ${ZEROPLANE_WEBHOOK_TOKEN:-} ]] && "$tf" output -raw app_name >/dev/null 2>&1; then
  export TF_VAR_webhook_token=$ZEROPLANE_WEBHOOK_TOKEN
fi
"$tf" apply "$@"
group=$("$tf" output -raw resource_group)
app=$("$tf" output -raw app_name)
address=$("$tf" output -raw address)

say "sending the package to $app"
az functionapp deployment source config-zip --resource-group "$group" --name "$app" --src ../../../dist/zeroplane-azure.zip --build-remote false --output none

say "waiting for https://$address to answer"
curl --silent --fail --output /dev/null --retry 60 --retry-delay 5 --retry-all-errors --retry-max-time 300 --max-time 30 "https://$address/livez" ||
  fail "https://$address/livez did not answer in five minutes" "a role takes minutes to count after it was assigned; run this script again"

if [[ -n ${ZEROPLANE_WEBHOOK_TOKEN:-} && -z ${TF_VAR_webhook_token:-} ]]; then
  say "subscribing the webhook to the topic"
  export TF_VAR_webhook_token=$ZEROPLANE_WEBHOOK_TOKEN
  "$tf" apply "$@"
fi

cat <<NEXT

zeroplane serves https://$address
Next, a kubeconfig: docs/deploy-azure.md, "A kubeconfig"; the account is $("$tf" output -raw storage_account_name), the vault $("$tf" output -raw vault_name).
To remove all of it: infra/azure/terraform/destroy.sh
NEXT
