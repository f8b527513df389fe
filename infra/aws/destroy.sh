#!/usr/bin/env bash
# Removes a zeroplane from AWS. The store, a table in Azure, is left as it is.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: infra/aws/destroy.sh [--stack NAME] [--yes] [--secret]

  --stack   the CloudFormation stack (default: zeroplane)
  --yes     do not ask
  --secret  also delete the secret, with the seal key that the clusters in the table need. It can be had back for 30
            days: aws secretsmanager restore-secret --secret-id NAME
  --help    this
USAGE
}

say() { printf '%s\n' "--- $*"; }
fail() {
  printf '%s\n' "destroy.sh: $1" "${@:2}" >&2
  exit 1
}

stack=zeroplane
yes='' secret=''
while [[ $# -gt 0 ]]; do
  case $1 in
    --stack)
      [[ $# -ge 2 ]] || fail "--stack needs a value"
      stack=$2
      shift 2
      ;;
    --yes) yes=1 && shift ;;
    --secret) secret=1 && shift ;;
    --help | -h)
      usage
      exit
      ;;
    *) fail "unknown argument $1" "infra/aws/destroy.sh --help says what there is" ;;
  esac
done

command -v aws >/dev/null || fail "the AWS CLI is missing" "install it: https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html"
account=$(aws sts get-caller-identity --query Account --output text 2>/dev/null) || fail "the AWS CLI has no credentials" "type: aws configure sso"
if [[ ! $yes ]]; then
  read -r -p "Remove stack $stack from account $account? Type the stack's name: " answer
  [[ $answer == "$stack" ]] || fail "nothing was removed"
fi

say "removing stack $stack (some minutes)"
aws cloudformation delete-stack --stack-name "$stack"
aws cloudformation wait stack-delete-complete --stack-name "$stack"
if [[ $secret ]]; then
  say "deleting secret $stack"
  aws secretsmanager delete-secret --secret-id "$stack" --recovery-window-in-days 30 >/dev/null
else
  say "secret $stack stays, since the clusters in the table need it (--secret deletes it; it costs \$0.40 a month)"
fi
say "done; the Azure table was not touched"
