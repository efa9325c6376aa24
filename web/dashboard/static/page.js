// What the page does beside htmx: draws the plots, says whether it is live, opens what is to be confirmed in a dialog.
"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const SERIES = {
    ready: ["urgent", "high", "normal", "low"],
    oldest: ["urgent", "high", "normal", "low"],
    rates: ["accepted", "succeeded", "failures"],
  };
  const clock = (at, seconds) => new Date(at * 1e3).toISOString().slice(11, seconds ? 19 : 16);
  let drawn = [];

  function draw(data) {
    drawn.forEach((plot) => plot.destroy());
    drawn = [...document.querySelectorAll("[data-series]")].map((box) => {
      const name = box.dataset.series;
      const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
      return new uPlot({
        width: box.clientWidth, height: 150, legend: { show: false }, cursor: { show: false },
        padding: [8, 24, 0, 0],
        scales: { y: { range: (_plot, _low, high) => [0, Math.max(4, high * 1.1)] } },
        series: [{}, ...SERIES[name].map((line) => ({ label: line, stroke: colour(`--s-${line}`), width: 1.75, points: { show: data[name][0].length < 2 } }))],
        axes: [
          { ...axis, values: (_plot, times, _axis, _space, step) => times.map((at) => clock(at, step < 60)), space: 60, size: 28, incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800] },
          { ...axis, size: 40, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 1e5, 1e6] },
        ],
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), "Etc/UTC"),
      }, data[name], box);
    });
  }

  // A process that was started anew, or another one, knows less of the last hour than was seen here. What only this page
  // knows stays to the left of it, with a gap where nobody looked: time goes one way, whoever tells.
  const HOUR_S = 3600, GAP_S = 30;
  function joined(before, now) {
    const seen = before.ready[0], [first, last] = [now.ready[0][0], now.ready[0].at(-1)];
    if (first === undefined) return before;
    const kept = [...seen.keys()].filter((at) => seen[at] < first && seen[at] >= last - HOUR_S);
    const gap = kept.length && first - seen[kept.at(-1)] > GAP_S;
    const line = (old, fresh, time) => [...kept.map((at) => old[at]), ...(gap ? [time ? first - 1 : null] : []), ...fresh];
    return Object.fromEntries(Object.entries(now).map(([name, lines]) => [name, lines.map((fresh, at) => line(before[name][at], fresh, at === 0))]));
  }

  const plots = document.getElementById("plots");
  if (plots) {
    let data = JSON.parse(plots.dataset.plots);
    const again = () => draw(data);
    again();
    dark.addEventListener("change", again);
    let width = plots.clientWidth;
    new ResizeObserver(() => { if (plots.clientWidth !== width) { width = plots.clientWidth; again(); } }).observe(plots);
    plots.addEventListener("htmx:sseBeforeMessage", (event) => {
      event.preventDefault();
      data = joined(data, JSON.parse(event.detail.data));
      plots.dataset.plots = JSON.stringify(data);
      again();
    });
  }

  const connection = document.getElementById("connection");
  const say = (text, tone) => {
    if (connection.textContent !== text) { connection.textContent = text; connection.className = `connection ${tone}`; }
    connection.hidden = false;
  };
  document.body.addEventListener("htmx:sseOpen", (event) => {
    say("live", "good");
    const source = event.detail.source;
    source.addEventListener("gone", () => { source.close(); location.reload(); });
  });
  document.body.addEventListener("htmx:sseError", () => say("not connected, trying again", "bad"));
  document.body.addEventListener("htmx:sseClose", (event) => { if (event.detail.type === "message") say("ended", "quiet"); });

  const dialog = document.getElementById("dialog");
  let opener = null;
  document.body.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target !== dialog) return;
    opener = event.detail.requestConfig ? event.detail.requestConfig.elt.id : null;
    if (!dialog.open) dialog.showModal();
  });
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog || event.target.closest("[data-close]")) { event.preventDefault(); dialog.close(); }
  });
  dialog.addEventListener("close", () => {
    // What opened it may have been drawn anew meanwhile.
    const back = opener && document.getElementById(opener);
    if (back) back.focus();
    dialog.replaceChildren();
  });
})();
