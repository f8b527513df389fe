#!/usr/bin/env bash
# Deploys zeroplane to Azure, or brings a deployment up to date. It may be run again at any time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
  cat <<'USAGE'
usage: infra/azure/deploy.sh [--group NAME] [--location NAME] [--parameters NAME=VALUE...]

  --group       the resource group, made if it is missing (default: zeroplane)
  --location    where, for a new group (default: northeurope)
  --parameters  parameters of infra/azure/bicep/main.bicep, as instanceMemoryMB=2048 alertEmail=me@example.com.
                They are not remembered: give them each time
  --help        this

With $ZEROPLANE_WEBHOOK_TOKEN set, bells also travel through Event Grid to the webhook (docs/deploy-azure.md).

It needs the Azure CLI, signed in as an owner of the subscription or of the group (it assigns roles); openssl; and what
`make build` needs. The first run takes some ten minutes.
USAGE
}

say() { printf '%s\n' "--- $*"; }
fail() {
  printf '%s\n' "deploy.sh: $1" "${@:2}" >&2
  exit 1
}

group=zeroplane
location=northeurope
parameters=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --group | --location)
      [[ $# -ge 2 ]] || fail "$1 needs a value"
      printf -v "${1#--}" %s "$2"
      shift 2
      ;;
    --parameters)
      shift
      while [[ $# -gt 0 && $1 != --* ]]; do
        [[ $1 == *=* ]] || fail "$1 is no NAME=VALUE"
        parameters+=("$1")
        shift
      done
      ;;
    --help | -h)
      usage
      exit
      ;;
    *) fail "unknown argument $1" "infra/azure/deploy.sh --help says what there is" ;;
  esac
done

say "checking what is needed"
command -v az >/dev/null || fail "the Azure CLI is missing" "install it: https://learn.microsoft.com/cli/azure/install-azure-cli"
for tool in openssl curl go make; do
  command -v "$tool" >/dev/null || fail "$tool is missing" "install it with the system's package manager"
done
subscription=$(az account show --query id --output tsv 2>/dev/null) || fail "the Azure CLI is not signed in" "type: az login"
az bicep version >/dev/null 2>&1 || az bicep install
for provider in Microsoft.Web Microsoft.Storage Microsoft.KeyVault Microsoft.EventGrid Microsoft.Insights Microsoft.OperationalInsights Microsoft.ManagedIdentity Microsoft.Consumption; do
  state=$(az provider show --namespace "$provider" --query registrationState --output tsv)
  if [[ $state != Registered ]]; then
    say "registering $provider in the subscription"
    az provider register --namespace "$provider" --wait
  fi
done

say "building the package"
make --no-print-directory package-azure

say "resource group $group in subscription $subscription"
if [[ $(az group exists --name "$group") == true ]]; then
  location=$(az group show --name "$group" --query location --output tsv)
else
  az group create --name "$group" --location "$location" --output none
fi

# The seal key is made once. With another one, no cluster in the table could be opened.
vault=$(az resource list --resource-group "$group" --resource-type Microsoft.KeyVault/vaults --query '[0].id' --output tsv)
if [[ -z $vault ]] || ! az resource show --ids "$vault/secrets/zeroplane-seal-key" --api-version 2023-07-01 --output none 2>/dev/null; then
  table=$(az resource list --resource-group "$group" --resource-type Microsoft.Storage/storageAccounts --query '[0].name' --output tsv)
  [[ -z $table ]] || fail "storage account $table is there, and the seal key that its clusters need cannot be read" \
    "see why: az resource show --ids '$vault/secrets/zeroplane-seal-key' --api-version 2023-07-01" \
    "if the first deployment failed before it made the key, begin again: infra/azure/destroy.sh --group $group"
  say "making the seal key"
  seal_key=$(openssl rand -base64 32)
fi
# A budget's beginning cannot be moved.
budget_start=$(az resource show --resource-group "$group" --resource-type Microsoft.Consumption/budgets --name zeroplane \
  --api-version 2023-05-01 --query properties.timePeriod.startDate --output tsv 2>/dev/null || true)

push=false
if [[ -n ${ZEROPLANE_WEBHOOK_TOKEN:-} ]]; then push=true; fi

# Secrets go in a file that only this user can read, since arguments of commands are seen by all.
secrets=$(mktemp)
trap 'rm -f "$secrets"' EXIT
# write_secrets NAME=VALUE...: writes a file of parameters.
write_secrets() {
  local pair separator=''
  printf '{"parameters":{' >"$secrets"
  for pair in "$@"; do
    printf '%s"%s":{"value":"%s"}' "$separator" "${pair%%=*}" "${pair#*=}" >>"$secrets"
    separator=,
  done
  printf '}}\n' >>"$secrets"
}

say "deploying (up to ten minutes the first time)"
write_secrets ${seal_key:+"sealKey=$seal_key"}
az deployment group create --resource-group "$group" --name zeroplane --output none \
  --template-file infra/azure/bicep/main.bicep \
  --parameters "@$secrets" \
  --parameters location="$location" pushBells="$push" ${budget_start:+budgetStart="$budget_start"} ${parameters[@]+"${parameters[@]}"}

# output NAME: an output of the deployment.
output() { az deployment group show --resource-group "$group" --name zeroplane --query "properties.outputs.$1.value" --output tsv; }
app=$(output appName)
address=$(output address)
storage=$(output storageAccountName)

say "sending the package to $app"
az functionapp deployment source config-zip --resource-group "$group" --name "$app" --src dist/zeroplane-azure.zip --build-remote false --output none

say "waiting for https://$address to answer"
curl --silent --fail --output /dev/null --retry 60 --retry-delay 5 --retry-all-errors --retry-max-time 300 --max-time 30 "https://$address/livez" ||
  fail "https://$address/livez did not answer in five minutes" \
  "the app's log: az webapp log tail --resource-group $group --name $app" \
  "a role takes minutes to count after it was assigned; run this script again"

if [[ $push == true ]]; then
  say "subscribing the webhook to the topic"
  write_secrets "webhookToken=$ZEROPLANE_WEBHOOK_TOKEN"
  az deployment group create --resource-group "$group" --name zeroplane-subscription --output none \
    --template-file infra/azure/bicep/subscription.bicep \
    --parameters "@$secrets" \
    --parameters topicName="$(output topicName)" storageAccountName="$storage" address="$address"
fi

cat <<NEXT

zeroplane serves https://$address

Next, to get a kubeconfig (rights take some minutes to count; docs/deploy-azure.md):

  az role assignment create --role "Key Vault Secrets User" --assignee "\$(az ad signed-in-user show --query id -o tsv)" \\
    --scope "\$(az keyvault show --name $(output vaultName) --query id -o tsv)"
  az role assignment create --role "Storage Table Data Contributor" --assignee "\$(az ad signed-in-user show --query id -o tsv)" \\
    --scope "\$(az storage account show -g $group -n $storage --query id -o tsv)"
  export AZURE_STORAGE_ACCOUNT=$storage
  export ZEROPLANE_SEAL_KEY=\$(az keyvault secret show --vault-name $(output vaultName) --name zeroplane-seal-key --query value -o tsv)
  make build && infra/kubeconfig.sh https://$address zeroplane.kubeconfig

Keep a copy of that key: without it no cluster in the table can be opened.
To remove all of it: infra/azure/destroy.sh --group $group
NEXT
