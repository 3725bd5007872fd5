// The list of jobs.

import { listJobs } from "./client.js";
import { badge, fill, lastPart, make, number, pager, progress, select, since, table }
  from "./elements.js";

export const STATES =
  ["queued", "preparing", "running", "finishing", "complete", "failed", "cancelled"];
const SHOWN = 50;

// Return a view: `load` asks, and draws what is new.
export function jobsView(main, again) {
  const list = make("div");
  const asked = { state: "", cursors: [""] };
  const states = [["", "all"], ...STATES.map((state) => [state, state])];
  main.replaceChildren(
    make("h1", { id: "title", tabIndex: -1 }, "Jobs"),
    make("div", { className: "filters" }, select("state", "State", states, "", (state) => {
      Object.assign(asked, { state, cursors: [""] });
      again();
    })),
    list);
  let drawn;
  return async () => {
    const page = await listJobs(
      { state: asked.state, before: asked.cursors.at(-1), limit: SHOWN });
    const text = JSON.stringify([asked, page]);
    if (text === drawn) return;
    drawn = text;
    fill(list,
      table("Jobs, the newest first", ["Output", "State", "Slides", "Patches", "Failed", "Asked for"],
        page.jobs.map(row), asked.state ? "No jobs in this state." : "No jobs yet."),
      pager("jobs", asked.cursors, page.next, (cursors) => {
        asked.cursors = cursors;
        again();
      }, ["Newer", "Older"]));
  };
}

export const slidesOf = (job) => Object.values(job.slides).reduce((a, b) => a + b, 0);

function row(job) {
  const failed = job.slides.failed ?? 0;
  return [
    make("a", { href: `#/jobs/${encodeURIComponent(job.job_id)}`, id: `job-${job.job_id}`,
      title: job.output }, lastPart(job.output)),
    badge(job.state),
    progress(`Slides of ${lastPart(job.output)} that are done`,
      (job.slides.done ?? 0) + failed + (job.slides.cancelled ?? 0), slidesOf(job)),
    number(job.written),
    make("span", { className: failed ? "bad" : "quiet" }, number(failed)),
    since(job.created),
  ];
}
