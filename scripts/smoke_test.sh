#!/bin/sh
# Whether an orchestrator works: smoke_test.sh [URL]. Needs sh and curl. Exit code 0 if all is well, 1 at the first thing that
# is not, 2 if it could not be tried. What to show for oneself is in the variables that the command line has as well:
#   ORCHESTRATOR_TOKEN or ORCHESTRATOR_API_KEY, or a file named by one of them with _FILE: a key that may submit and read
#     tasks and read the audit
#   ORCHESTRATOR_TLS_CA_FILE: the authority of its certificate; ORCHESTRATOR_TLS_CERTIFICATE_FILE, ORCHESTRATOR_TLS_KEY_FILE: ours
set -eu

url=${1:-${ORCHESTRATOR_URL:-http://127.0.0.1:8080}}
url=${url%/}
stop() { echo "smoke_test.sh: $1" >&2; exit 2; }
[ $# -le 1 ] || stop "one URL is wanted, not $# words"
case $url in http://?*|https://?*) ;; *) stop "no URL: $url" ;; esac
command -v curl >/dev/null || stop "curl is needed"
content() { [ -z "$1" ] || cat "$1" || stop "$1 cannot be read"; }
token=${ORCHESTRATOR_TOKEN:-$(content "${ORCHESTRATOR_TOKEN_FILE:-}")}
token=${token:-${ORCHESTRATOR_API_KEY:-$(content "${ORCHESTRATOR_API_KEY_FILE:-}")}}
key="smoke-$(date +%s)-$$"
body='{"case_id": "smoke-test", "task_type": "audit_log", "priority": "low", "deadline_s": 60, "payload": {"note": "smoke test"}}'

fail() { echo "FAIL: $1" >&2; exit 1; }
pass() { echo "ok: $1"; }
# The key goes by standard input, since everybody on the machine can read arguments.
call() {
    path=$1
    shift
    printf '%s\n' "${token:+Authorization: Bearer $token}" |
        curl -sS --max-time 15 -H @- \
            ${ORCHESTRATOR_TLS_CA_FILE:+--cacert "$ORCHESTRATOR_TLS_CA_FILE"} \
            ${ORCHESTRATOR_TLS_CERTIFICATE_FILE:+--cert "$ORCHESTRATOR_TLS_CERTIFICATE_FILE"} \
            ${ORCHESTRATOR_TLS_KEY_FILE:+--key "$ORCHESTRATOR_TLS_KEY_FILE"} \
            "$@" "$url$path" || fail "$path does not answer"
}
send() { call /route_task -H 'Content-Type: application/json' -H "Idempotency-Key: $key" -d "$1"; }
holds() { case $1 in *"$2"*) ;; *) fail "$3: $1" ;; esac; }

holds "$(call /health)" '"status":"ok"' "not healthy"
pass "health"
holds "$(call /ready)" '"ready":true' "not ready"
pass "ready"

accepted=$(send "$body")
task_id=$(printf '%s' "$accepted" | sed -n 's/.*"task_id":"\(task-[0-9a-f]\{32\}\)".*/\1/p')
[ -n "$task_id" ] || fail "not accepted: $accepted"
pass "accepted $task_id"

again=$(send "$body")
holds "$again" '"status":"duplicate"' "the same key made another task"
holds "$again" "$task_id" "the same key named another task"
pass "the same key is the same task"
holds "$(send '{"case_id": "smoke-test", "task_type": "audit_log", "payload": {}}')" 'E_IDEMPOTENCY_KEY_REUSED' \
    "the same key stands for another body"
holds "$(call /route_task -H 'Content-Type: application/json' -d '{')" 'E_INVALID_JSON' "broken JSON is not refused"
pass "what cannot be is refused"

holds "$(call "/task/$task_id?wait=1")" "\"task_id\":\"$task_id\"" "no status"
pass "status"
holds "$(call "/audit?task_id=$task_id")" '"event":"accepted"' "no audit entry"
pass "audit"
holds "$(call /metrics)" 'orchestrator_tasks_total{' "no metrics"
pass "metrics"
