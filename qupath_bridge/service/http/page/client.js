// Asks the API, with the token of this tab.

const KEY = "qupath-bridge-token";

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

// An error of the API: `status` is 0 if there was no answer.
export class ApiError extends Error {
  constructor(status, message, hint) {
    super(hint ? `${message} ${hint}` : message);
    this.status = status;
  }
}

async function send(method, path, query = {}) {
  const url = new URL(path, document.baseURI);
  for (const [name, value] of Object.entries(query)) {
    if (value !== "" && value != null) url.searchParams.set(name, value);
  }
  const known = token.get();
  const headers = known ? { Authorization: `Bearer ${known}` } : {};
  let answer;
  try {
    answer = await fetch(url, { method, headers, cache: "no-store" });
  } catch {
    throw new ApiError(0, "The service does not answer.", "This page asks again by itself.");
  }
  if (answer.ok) return answer;
  const body = await answer.json().catch(() => ({}));
  throw new ApiError(
    answer.status, body.error ?? `The service answered ${answer.status}.`, body.hint);
}

const part = encodeURIComponent;
const json = async (path, query) => (await send("GET", path, query)).json();

export const listJobs = (query) => json("jobs", query);
export const getJob = (id) => json(`jobs/${part(id)}`);
export const listSlides = (id, query) => json(`jobs/${part(id)}/slides`, query);
export const listPatches = (id, query) => json(`jobs/${part(id)}/patches`, query);
export const changeJob = async (id, change) =>
  (await send("POST", `jobs/${part(id)}/${change}`)).json();
export const getPicture = async (tile) =>
  (await send("GET", `patches/${part(tile)}/image`)).blob();
export const getReport = async (id) => (await send("GET", `jobs/${part(id)}/report`)).text();
export const makeReport = (id) => send("POST", `jobs/${part(id)}/report`);
