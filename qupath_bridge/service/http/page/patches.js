// Patches of a job with their pictures, by label and slide.

import { getPicture, listPatches } from "./client.js";
import { fill, make, pager } from "./elements.js";

const SHOWN = 24;

export function patchesPart(id, again) {
  const asked = { label: "", slide: "", cursors: [""] };
  const list = make("div");
  const names = make("datalist", { id: "labels" });
  const label = make("input", { id: "label", type: "search", list: "labels", size: 16 });
  const slide = make("input", { id: "slide", type: "search", size: 24 });
  const element = make("section", { "aria-labelledby": "patches-title" },
    make("h2", { id: "patches-title", tabIndex: -1 }, "Patches"),
    make("form", { className: "filters", onsubmit: (event) => { event.preventDefault(); ask(); },
      onchange: () => ask() },
    make("span", { className: "field" }, make("label", { htmlFor: "label" }, "Label"), label, names),
    make("span", { className: "field" }, make("label", { htmlFor: "slide" }, "Slide id"), slide),
    make("button", { type: "submit" }, "Filter")),
    list);
  let drawn;
  let pictures = [];

  function ask() {
    Object.assign(asked, { label: label.value, slide: slide.value, cursors: [""] });
    again();
  }

  function card(patch) {
    const image = make("img", { alt: `Patch ${patch.patch_id}`, width: 128, height: 128 });
    const shares = Object.entries(patch.shares)
      .map(([name, share]) => `${name} ${Math.round(share * 100)} %`).join(", ");
    load(patch, image);
    return make("li", {}, make("figure", {}, image, make("figcaption", {},
      make("b", {}, patch.labels.join(", ") || "no label"),
      make("span", { className: "quiet" }, shares),
      make("code", {}, patch.patch_id))));
  }

  async function load(patch, image) {
    const mine = pictures;
    try {
      const address = URL.createObjectURL(await getPicture(patch.tile_uuid));
      if (mine !== pictures) {
        URL.revokeObjectURL(address);
        return;
      }
      mine.push(address);
      image.addEventListener("error", () => missing(image, "No browser shows this format."));
      image.src = address;
    } catch (error) {
      missing(image, error.message);
    }
  }

  const missing = (image, why) =>
    image.replaceWith(make("p", { className: "missing quiet" }, why));

  return {
    element,
    // Show the patches of one slide.
    choose(name) {
      slide.value = name;
      ask();
      element.scrollIntoView();
      document.getElementById("patches-title").focus({ preventScroll: true });
    },
    async load(job) {
      const page = await listPatches(id, { label: asked.label, slide: asked.slide,
        after: asked.cursors.at(-1), limit: SHOWN });
      const text = JSON.stringify([asked, page]);
      if (text === drawn) return;
      drawn = text;
      pictures.forEach((address) => URL.revokeObjectURL(address));
      pictures = [];
      fill(names, Object.keys(job.labels).map((value) => make("option", { value })));
      const filtered = asked.label || asked.slide;
      fill(list,
        page.patches.length ? make("ul", { className: "patches" }, page.patches.map(card))
          : make("p", { className: "quiet" },
            filtered ? "No patches with this label and slide." : "No patches yet."),
        pager("patches", asked.cursors, page.next, (cursors) => {
          asked.cursors = cursors;
          again();
        }));
    },
  };
}
