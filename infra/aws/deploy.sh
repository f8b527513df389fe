#!/usr/bin/env bash
# Deploys zeroplane to AWS Lambda, or brings a deployment up to date. It may be run again at any time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

usage() {
  cat <<'USAGE'
usage: infra/aws/deploy.sh [--stack NAME] [--parameters NAME=VALUE...]

  --stack       the CloudFormation stack (default: zeroplane); the secret has its name
  --parameters  parameters of infra/aws/sam/template.yaml, as MemorySize=2048 AlertEmail=me@example.com.
                What is not given keeps its last value
  --help        this

The store is a table of an Azure storage account: the first run needs $AZURE_STORAGE_CONNECTION_STRING. It takes
$ZEROPLANE_SEAL_KEY for the seal key, or makes one.

It needs the AWS CLI and the SAM CLI, with credentials that may make roles, functions, queues and secrets; openssl; and
what `make build` needs.
USAGE
}

say() { printf '%s\n' "--- $*"; }
fail() {
  printf '%s\n' "deploy.sh: $1" "${@:2}" >&2
  exit 1
}

stack=zeroplane
parameters=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --stack)
      [[ $# -ge 2 ]] || fail "--stack needs a value"
      stack=$2
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
    *) fail "unknown argument $1" "infra/aws/deploy.sh --help says what there is" ;;
  esac
done

say "checking what is needed"
command -v aws >/dev/null || fail "the AWS CLI is missing" "install it: https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html"
command -v sam >/dev/null || fail "the SAM CLI is missing" "install it: https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/install-sam-cli.html"
for tool in openssl curl go make; do
  command -v "$tool" >/dev/null || fail "$tool is missing" "install it with the system's package manager"
done
account=$(aws sts get-caller-identity --query Account --output text 2>/dev/null) || fail "the AWS CLI has no credentials" "type: aws configure sso"

say "building the package"
make --no-print-directory package-aws

if aws secretsmanager describe-secret --secret-id "$stack" >/dev/null 2>&1; then
  say "secret $stack is there and stays as it is"
else
  [[ ${AZURE_STORAGE_CONNECTION_STRING:-} ]] || fail "AZURE_STORAGE_CONNECTION_STRING is not set, and secret $stack does not exist yet" \
    "get it: az storage account show-connection-string --name ACCOUNT --query connectionString --output tsv" \
    "and export it"
  say "making secret $stack"
  # In a file that only this user can read, since arguments of commands are seen by all.
  secrets=$(mktemp)
  trap 'rm -f "$secrets"' EXIT
  printf '{"connectionString":"%s","sealKey":"%s"}\n' "$AZURE_STORAGE_CONNECTION_STRING" "${ZEROPLANE_SEAL_KEY:-$(openssl rand -base64 32)}" >"$secrets"
  aws secretsmanager create-secret --name "$stack" --description "zeroplane: the store and the seal key" --secret-string "file://$secrets" >/dev/null
fi

# url: the function URL, empty while there is none.
url() {
  aws cloudformation describe-stacks --stack-name "$stack" --query "Stacks[0].Outputs[?OutputKey=='Url'].OutputValue | [0]" --output text 2>/dev/null | grep -v '^None$' || true
}

# deploy ADDRESS
deploy() {
  sam deploy --template-file infra/aws/sam/template.yaml --stack-name "$stack" --resolve-s3 --capabilities CAPABILITY_IAM \
    --no-confirm-changeset --no-fail-on-empty-changeset \
    --parameter-overrides "SecretName=$stack" "Address=$1" ${parameters[@]+"${parameters[@]}"}
}

# host URL: its host name.
host() {
  local address=${1#https://}
  printf %s "${address%%/*}"
}

say "deploying to account $account (some minutes)"
before=$(url)
deploy "$(host "$before")"
after=$(url)
[[ $after ]] || fail "the stack has no URL" "see: aws cloudformation describe-stack-events --stack-name $stack"
if [[ $after != "$before" ]]; then
  say "telling the functions their address"
  deploy "$(host "$after")"
fi

say "waiting for $after to answer"
curl --silent --fail --output /dev/null --retry 12 --retry-delay 5 --retry-all-errors --max-time 30 "${after%/}/livez" ||
  fail "${after%/}/livez did not answer" "the log: sam logs --stack-name $stack --name ApiFunction"

cat <<NEXT

zeroplane serves $after

Next, to get a kubeconfig (docs/deploy-aws.md):

  secret=\$(aws secretsmanager get-secret-value --secret-id $stack --query SecretString --output text)
  export AZURE_STORAGE_CONNECTION_STRING=\$(jq -r .connectionString <<<"\$secret") ZEROPLANE_SEAL_KEY=\$(jq -r .sealKey <<<"\$secret")
  make build && infra/kubeconfig.sh ${after%/} zeroplane.kubeconfig

Keep a copy of that key: without it no cluster in the table can be opened.
To remove the stack: infra/aws/destroy.sh --stack $stack
NEXT
