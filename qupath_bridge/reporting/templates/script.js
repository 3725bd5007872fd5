"use strict";
// The page works without this: everything is shown, nothing can be filtered or switched.
(() => {
  const get = (id) => document.getElementById(id);
  const all = (selector, where = document) => [...where.querySelectorAll(selector)];
  const fold = (text) => text.normalize("NFC").toLowerCase();

  const form = get("filters");
  const slides = all("details.slide");
  const fields = ["text", "slide", "label", "reason"];
  const value = (name) => (get(`filter-${name}`) || { value: "" }).value;
  const words = (element, name) => element.dataset[name].split(" ");

  function fits(slide, wanted, searched) {
    return (!wanted.slide || slide.id === wanted.slide)
      && (!wanted.label || words(slide, "labels").includes(wanted.label))
      && (!wanted.reason || words(slide, "reasons").includes(wanted.reason))
      && searched.every((word) => fold(slide.dataset.search).includes(word));
  }

  function filter() {
    const wanted = Object.fromEntries(fields.map((name) => [name, value(name)]));
    const searched = fold(wanted.text).split(/\s+/).filter(Boolean);
    const shown = new Set(slides.filter((slide) => fits(slide, wanted, searched)).map((s) => s.id));
    all("[data-slide]").forEach((each) => { each.hidden = !shown.has(each.dataset.slide); });
    // A filter of labels or reasons leaves the sheets of these alone.
    const labels = wanted.label || wanted.reason;
    all(".sheet").forEach((sheet) => {
      const own = "reason" in sheet.dataset ? sheet.dataset.reason === wanted.reason
        : sheet.dataset.label === wanted.label;
      sheet.hidden = Boolean(labels) && !own;
    });
    all(".inside").forEach((inside) => all("h4", inside).forEach((heading) => {
      let next = heading.nextElementSibling;
      let any = false;
      while (next && next.classList.contains("sheet")) {
        any = any || !next.hidden;
        next = next.nextElementSibling;
      }
      heading.hidden = !any;
    }));
    if (wanted.slide && shown.has(wanted.slide)) get(wanted.slide).open = true;
    get("nothing").hidden = shown.size > 0;
    get("filter-count").value = shown.size === slides.length ? ""
      : `${shown.size} of ${slides.length} slides`;
  }

  form.hidden = false;
  all(".buttons").forEach((each) => { each.hidden = false; });
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(filter));

  const openAll = (open) => slides.forEach((slide) => { if (!slide.hidden) slide.open = open; });
  if (get("open-all")) {
    get("open-all").addEventListener("click", () => openAll(true));
    get("close-all").addEventListener("click", () => openAll(false));
  }

  function openTarget() {
    const target = get(decodeURIComponent(location.hash.slice(1)));
    if (!target || !target.matches("details.slide")) return;
    if (target.hidden) { form.reset(); filter(); }
    target.open = true;
    target.scrollIntoView();
    target.querySelector("summary").focus({ preventScroll: true });
  }
  addEventListener("hashchange", openTarget);
  // A link to a slide that was closed again does not change the address.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#slide-']");
    if (link) setTimeout(openTarget);
  });
  if (location.hash) openTarget();

  slides.forEach((slide) => {
    const layers = (box) => all(`img[data-layer="${box.dataset.layer}"]`, slide);
    const boxes = all("input[data-layer]", slide);
    const update = (box) => layers(box).forEach((layer) => { layer.hidden = !box.checked; });
    boxes.forEach((box) => {
      update(box); // browsers keep what was checked when a page is loaded again
      box.addEventListener("change", () => update(box));
    });
    all("button[data-layers]", slide).forEach((button) => button.addEventListener("click", () => {
      boxes.forEach((box) => { box.checked = button.dataset.layers === "all"; update(box); });
    }));
    all("button[data-enlarge]", slide).forEach((button) => button.addEventListener("click", () => {
      const large = button.closest(".map").classList.toggle("enlarged");
      button.setAttribute("aria-pressed", large);
    }));
    const here = slide.querySelector(".here rect");
    const mark = (patch) => {
      const box = patch ? patch.dataset.box.split(" ") : [0, 0, 0, 0];
      ["x", "y", "width", "height"].forEach((name, i) => here.setAttribute(name, box[i]));
    };
    all("[data-box]", slide).forEach((patch) => {
      ["mouseenter", "focus"].forEach((name) => patch.addEventListener(name, () => mark(patch)));
      ["mouseleave", "blur"].forEach((name) => patch.addEventListener(name, () => mark(null)));
    });
  });

  let closed = [];
  addEventListener("beforeprint", () => {
    closed = all("details:not([open])");
    closed.forEach((each) => { each.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((each) => { each.open = false; }));
})();
