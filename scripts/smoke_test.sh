#!/bin/sh
# Whether an orchestrator works: smoke_test.sh [URL]. Needs curl. Exit code 0 if all is well, 1 at the first thing that is not.
set -eu

url=${1:-http://127.0.0.1:8080}
key="smoke-$(date +%s)-$$"
body='{"case_id": "smoke-test", "task_type": "audit_log", "priority": "low", "deadline_s": 60, "payload": {"note": "smoke test"}}'

fail() { echo "FAIL: $1" >&2; exit 1; }
pass() { echo "ok: $1"; }
get() { curl -sS --max-time 15 "$url$1" || fail "$1 does not answer"; }
send() {
    curl -sS --max-time 15 "$url/route_task" -H 'Content-Type: application/json' -H "Idempotency-Key: $key" -d "$body" \
        || fail "POST /route_task does not answer"
}
holds() { case $1 in *"$2"*) ;; *) fail "$3: $1" ;; esac; }

holds "$(get /health)" '"status":"ok"' "not healthy"
pass "health"
holds "$(get /ready)" '"ready":true' "not ready"
pass "ready"

accepted=$(send)
task_id=$(printf '%s' "$accepted" | sed -n 's/.*"task_id":"\(task-[0-9a-f]\{32\}\)".*/\1/p')
[ -n "$task_id" ] || fail "not accepted: $accepted"
pass "accepted $task_id"

again=$(send)
holds "$again" '"status":"duplicate"' "the same key made another task"
holds "$again" "$task_id" "the same key named another task"
pass "the same key is the same task"

holds "$(get "/task/$task_id?wait=5")" "\"task_id\":\"$task_id\"" "no status"
pass "status"
holds "$(get "/audit?task_id=$task_id")" '"event":"accepted"' "no audit entry"
pass "audit"
holds "$(get /metrics)" 'orchestrator_tasks_total{' "no metrics"
pass "metrics"
