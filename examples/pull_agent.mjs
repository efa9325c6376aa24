// An agent in plain Node.js (18 or newer, no packages) that asks for work: `node pull_agent.mjs http://127.0.0.1:8080`.
// It counts the words of notes. docs/agents.md describes the protocol.

const base = process.argv[2] ?? process.env.ORCHESTRATOR_URL ?? "http://127.0.0.1:8080";
const agent = { agent_id: process.argv[3] ?? "words-1", capabilities: ["audit"], location: "edge-node", max_concurrency: 1 };
const token = process.env.ORCHESTRATOR_API_KEY ?? process.env.ORCHESTRATOR_TOKEN;
const stop = new AbortController();
process.once("SIGTERM", () => stop.abort());
process.once("SIGINT", () => stop.abort());

async function call(method, path, body, signal = AbortSignal.timeout(10_000)) {
  const headers = { "Content-Type": "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
  const response = await fetch(base + path, { method, headers, body: JSON.stringify(body), signal, redirect: "error" });
  return { status: response.status, body: await response.json() };
}

async function untilHeard(method, path, body) { // An orchestrator that restarts, or is overloaded, is asked again.
  for (let wait = 500; ; wait = Math.min(2 * wait, 30_000)) {
    const answer = await call(method, path, body).catch(() => null);
    if (answer && answer.status < 500 && answer.status !== 429) return answer;
    await new Promise((resolve) => setTimeout(resolve, Math.random() * wait));
  }
}

async function work(task, progress) { // What this agent is for. A thrown error may say that trying again is no use.
  if (typeof task.payload.note !== "string") throw Object.assign(new Error("note: a text is needed"), { retryable: false });
  await progress(0.5, "counting");
  return { words: task.payload.note.split(/\s+/).filter(Boolean).length };
}

async function serve(task) {
  const held = { agent_id: agent.agent_id, attempt: task.attempt, lease: task.lease };
  const extend = (word) => call("POST", `/task/${task.task_id}/extend`, { ...held, ...word }).catch(() => {});
  const keeping = setInterval(extend, (task.lease_s * 1000) / 3);
  let result;
  try {
    result = { success: true, output: await work(task, (progress, note) => extend({ progress, note })) };
  } catch (error) {
    result = { success: false, error: { message: error.message, retryable: error.retryable ?? true } };
  }
  clearInterval(keeping);
  const answer = await untilHeard("POST", `/task/${task.task_id}/result`, { ...held, ...result }); // Twice is safe.
  console.log(task.task_id, answer.status === 200 ? answer.body.status : answer.body.code);
}

const lease = () =>
  call("POST", `/agents/${agent.agent_id}/lease`, { max: 1, wait: 30 }, AbortSignal.any([stop.signal, AbortSignal.timeout(40_000)]));

await untilHeard("POST", "/register_agent", agent);
console.log("registered", agent.agent_id);
while (!stop.signal.aborted) {
  const answer = await lease().catch(() => null);
  if (answer?.status === 404) await untilHeard("POST", "/register_agent", agent);
  else if (answer?.status !== 200) await new Promise((resolve) => setTimeout(resolve, stop.signal.aborted ? 0 : 1000));
  else for (const task of answer.body.tasks) await serve(task);
}
await call("DELETE", `/agents/${agent.agent_id}`).catch(() => {});
