#!/usr/bin/env bash
# Removes a zeroplane from Azure: the resource group that deploy.sh deployed to, with everything in it.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: infra/azure/destroy.sh [--group NAME] [--yes] [--purge]

  --group  the resource group (default: zeroplane)
  --yes    do not ask
  --purge  also purge the vault. Without it the seal key can be had back for 90 days:
           az keyvault recover --name VAULT
  --help   this

All clusters in the group's table are lost. To keep them, first: bin/zeroplane store export (docs/backup.md).
USAGE
}

say() { printf '%s\n' "--- $*"; }
fail() {
  printf '%s\n' "destroy.sh: $1" "${@:2}" >&2
  exit 1
}

group=zeroplane
yes='' purge=''
while [[ $# -gt 0 ]]; do
  case $1 in
    --group)
      [[ $# -ge 2 ]] || fail "--group needs a value"
      group=$2
      shift 2
      ;;
    --yes) yes=1 && shift ;;
    --purge) purge=1 && shift ;;
    --help | -h)
      usage
      exit
      ;;
    *) fail "unknown argument $1" "infra/azure/destroy.sh --help says what there is" ;;
  esac
done

command -v az >/dev/null || fail "the Azure CLI is missing" "install it: https://learn.microsoft.com/cli/azure/install-azure-cli"
az account show --output none 2>/dev/null || fail "the Azure CLI is not signed in" "type: az login"
if [[ $(az group exists --name "$group") != true ]]; then
  say "there is no resource group $group; nothing to do"
  exit
fi

say "resource group $group holds"
az resource list --resource-group "$group" --query '[].{type:type, name:name}' --output table
app=$(az resource list --resource-group "$group" --resource-type Microsoft.Web/sites --query "[?starts_with(name, 'zeroplane-')].name | [0]" --output tsv)
[[ $app ]] || fail "no zeroplane is in resource group $group, so it is left alone" "remove it yourself: az group delete --name $group"
if [[ ! $yes ]]; then
  read -r -p "Remove all of this? Type the group's name: " answer
  [[ $answer == "$group" ]] || fail "nothing was removed"
fi
vault=$(az resource list --resource-group "$group" --resource-type Microsoft.KeyVault/vaults --query '[0].name' --output tsv)

say "removing $group (some minutes)"
az group delete --name "$group" --yes
if [[ $vault && $purge ]]; then
  say "purging vault $vault"
  az keyvault purge --name "$vault"
elif [[ $vault ]]; then
  say "vault $vault is kept, deleted, for 90 days; a new deployment to a group of this name and subscription needs it recovered"
  say "or purged: az keyvault purge --name $vault"
fi
say "done"
