// One job: how far it is, what failed, its slides, its report, its patches.

import { changeJob, getJob, getReport, listSlides, makeReport } from "./client.js";
import { badge, button, fill, lastPart, make, number, pager, progress, select, since, table }
  from "./elements.js";
import { slidesOf } from "./jobs.js";
import { patchesPart } from "./patches.js";

const ENDED = ["complete", "failed", "cancelled"];
const SLIDE_STATES = ["waiting", "working", "done", "failed", "cancelled"];
const SHOWN = 50;

export function jobView(main, again, id, { ask, say, failed }) {
  const head = make("div");
  const report = reportPart(id, say, failed);
  const slides = slidesPart(id, again, (slide) => patches.choose(slide));
  const patches = patchesPart(id, again);
  main.replaceChildren(
    make("p", {}, make("a", { href: "#/" }, "All jobs")),
    head, report.element, slides.element, patches.element);
  let drawn;

  async function change(name, question, answer) {
    if (question && !(await ask(question, answer))) return;
    try {
      const job = await changeJob(id, name);
      say(`The job is ${job.state}.`);
    } catch (error) {
      failed(error);
    }
    again();
  }

  return async () => {
    const job = await getJob(id);
    const text = JSON.stringify(job);
    if (text !== drawn) {
      drawn = text;
      document.title = `${lastPart(job.output)} · qupath-bridge`;
      fill(head, headOf(job, change));
      report.show(job);
    }
    await Promise.all([slides.load(), patches.load(job)]);
  };
}

function headOf(job, change) {
  const ended = ENDED.includes(job.state);
  const failures = job.slides.failed ?? 0;
  return [
    make("h1", { id: "title", tabIndex: -1 }, lastPart(job.output), " ", badge(job.state)),
    make("dl", { className: "facts" },
      fact("Slides", progress("Slides that are done", (job.slides.done ?? 0) + failures
        + (job.slides.cancelled ?? 0), slidesOf(job)), make("span", { className: "quiet" },
        SLIDE_STATES.filter((s) => job.slides[s]).map((s) => `${number(job.slides[s])} ${s}`)
          .join(", "))),
      fact("Patches", number(job.written)),
      labelsOf(job),
      fact("Output", make("code", {}, job.output)),
      fact(job.sources.length === 1 ? "Source" : "Sources", sourcesOf(job)),
      fact("Asked for", since(job.created)),
      fact("Changed", since(job.changed)),
      fact("Job", make("code", {}, job.job_id)),
      job.run_digest && fact("Digest of the run", make("code", {}, job.run_digest))),
    job.error && make("div", { className: "banner" }, make("p", {}, job.error),
      job.hint && make("p", {}, "Next step: ", job.hint)),
    job.warnings.length ? make("details", { className: "note" },
      make("summary", {}, `Warnings: ${job.warnings.length}`),
      make("ul", {}, job.warnings.map((each) => make("li", {}, each)))) : null,
    job.failures.length ? failuresOf(job) : null,
    make("div", { className: "buttons" },
      button("cancel", "Cancel", () => change("cancel",
        "Cancel this job? What is committed stays.", "Cancel the job"),
      { disabled: !["queued", "preparing", "running"].includes(job.state) }),
      button("retry", "Retry what failed", () => change("retry"),
        { disabled: !ended || (job.state === "complete" && !failures) })),
  ];
}

const fact = (name, ...value) =>
  make("div", {}, make("dt", {}, name), make("dd", {}, value));

function labelsOf(job) {
  const labels = Object.entries(job.labels);
  if (!labels.length) return null;
  return fact("Labels", labels.map(([name, count]) => `${name} ${number(count)}`).join(", "));
}

const FEW = 5;

function sourcesOf(job) {
  const lines = job.sources.slice(0, FEW).map((each) => make("div", {}, make("code", {}, each)));
  const more = job.sources.length - FEW;
  return more > 0 ? [...lines, `and ${number(more)} more`] : lines;
}

function failuresOf(job) {
  const shown = job.failures.slice(0, FEW);
  const more = (job.slides.failed ?? 0) - shown.length;
  return make("section", { className: "banner", "aria-label": "Failures" },
    make("h2", {}, "What failed"),
    make("ul", {}, shown.map((slide) => make("li", {},
      make("b", {}, slide.slide_name), `: ${slide.error}`,
      slide.hint && make("div", {}, "Next step: ", slide.hint)))),
    more > 0 && make("p", {}, `And ${number(more)} more: choose the state “failed” below.`));
}

function slidesPart(id, again, choose) {
  const list = make("div");
  const asked = { state: "", cursors: [""] };
  const states = [["", "all"], ...SLIDE_STATES.map((state) => [state, state])];
  let drawn;
  const element = make("section", { "aria-labelledby": "slides-title" },
    make("h2", { id: "slides-title" }, "Slides"),
    make("div", { className: "filters" },
      select("slide-state", "State", states, "", (state) => {
        Object.assign(asked, { state, cursors: [""] });
        again();
      })),
    list);

  const row = (slide) => [
    make("span", {}, slide.slide_name, slide.error && make("div", { className: "bad" }, slide.error),
      slide.hint && make("div", { className: "quiet" }, "Next step: ", slide.hint)),
    badge(slide.state),
    slide.state === "working" ? progress(`Patches of ${slide.slide_name}`, slide.done, slide.planned)
      : number(slide.written),
    slide.attempts ? number(slide.attempts) : "–",
    slide.seconds ? `${slide.seconds.toFixed(1)} s` : "–",
    slide.written ? button(`show-${slide.slide_id}`, "Show patches",
      () => choose(slide.slide_id), { "aria-label": `Show patches of ${slide.slide_name}` }) : "–",
  ];

  return {
    element,
    async load() {
      const page = await listSlides(id,
        { state: asked.state, after: asked.cursors.at(-1), limit: SHOWN });
      const text = JSON.stringify([asked, page]);
      if (text === drawn) return;
      drawn = text;
      fill(list,
        table("Slides by their ids", ["Slide", "State", "Patches", "Attempts", "Time", "Look"],
          page.slides.map(row), asked.state ? "No slides in this state." : "No slides yet."),
        pager("slides", asked.cursors, page.next, (cursors) => {
          asked.cursors = cursors;
          again();
        }));
    },
  };
}

function reportPart(id, say, failed) {
  const row = make("div", { className: "buttons" });
  const frame = make("div");
  const element = make("section", { "aria-labelledby": "report-title" },
    make("h2", { id: "report-title" }, "Report"), row, frame);
  let busy = false;
  let file = "";

  async function open(anew) {
    if (busy) return;
    busy = true;
    try {
      fill(frame, make("p", { role: "status" },
        "The report is being made. With many slides this takes minutes."));
      if (anew) await makeReport(id);
      show(await getReport(id).catch(async (error) => {
        if (error.status !== 404) throw error;
        await makeReport(id);
        return getReport(id);
      }));
    } catch (error) {
      fill(frame);
      failed(error);
    } finally {
      busy = false;
    }
  }

  // The frame has no rights: it cannot see the token, and its own policy lets it load nothing.
  // Files beside the report are not to be had here, so links to them go.
  function show(text) {
    const page = new DOMParser().parseFromString(text, "text/html");
    for (const link of page.querySelectorAll("a[href]:not([href^='#'])")) {
      link.removeAttribute("href");
    }
    const whole = `<!DOCTYPE html>${page.documentElement.outerHTML}`;
    URL.revokeObjectURL(file);
    file = URL.createObjectURL(new Blob([text], { type: "text/html" }));
    fill(frame,
      make("p", {}, make("a", { href: file, download: "report.html" }, "Save the report")),
      make("iframe", { title: "Report", sandbox: "allow-scripts", srcdoc: whole }));
    say("The report is shown.");
  }

  return {
    element,
    show(job) {
      if (!ENDED.includes(job.state)) {
        fill(row, make("p", { className: "quiet" }, "It can be made when the job has ended."));
        return;
      }
      fill(row, button("report", "Show the report", () => open(false)),
        button("report-anew", "Make it again", () => open(true)));
    },
  };
}
