// Puts the parts together: one sample is shown at a time, and what is pointed at is marked in all parts.

const THEMES = ["system", "light", "dark"];
let theme = "system", current = -1, topology = null;

function switchOf(id, name, choices, chosen, onChange) {
  for (const [value, words] of choices) {
    const input = element("input", { type: "radio", name, value, id: `${name}-${value}` });
    input.checked = value === chosen;
    input.addEventListener("change", () => onChange(value));
    byId(id).append(input, element("label", { for: `${name}-${value}`, text: words }));
  }
}

function showLegend() {
  const entries = structureView.colour === "plddt"
    ? PLDDT_CLASSES.map((entry) => [entry.colour, entry.words, entry.range])
    : structureView.colour === "chain"
      ? record.chains.slice(0, 12).map((chain, i) => [chainColour(i), `Chain ${chain.id}`, chain.components.slice(0, 2).join(", ")])
      : [["var(--carbon)", "Carbon and ribbons", ""], ...["N", "O", "S", "P"].map((name) => [ELEMENT_COLOURS[name], name, ""])];
  byId("legend").replaceChildren(...entries.map(([colour, words, more]) => element("li", {},
    element("i", { class: "swatch", style: { background: colour } }), element("b", { text: words }), more ? ` ${more}` : "")));
}

async function choose(number) {
  current = number;
  const sample = shown[number];
  const read = await readSample(number, topology);
  if (current !== number) return;
  byId(`sample-${number}`).checked = true;
  byId("choose").value = String(number);
  byId("previous").disabled = number === 0;
  byId("next").disabled = number === shown.length - 1;
  for (const row of byId("scores").tBodies[0].rows) row.classList.toggle("chosen", Number(row.dataset.sample) === number);
  showVerdict(sample);
  showPairs(sample);
  tracksView.read = read;
  showPae(read);
  drawTracks();
  showStructure(read, sample.secondary, topology);
  if (marked.length) mark(marked);
  document.documentElement.dataset.sample = String(number);
}

// Tokens that were clicked stay marked in the structure, in other samples too.
let marked = [];
function mark(tokens) {
  marked = [...new Set(tokens)];
  markTokens(marked, readSamples.get(current), topology);
  tip(null);
}

function tip(token) {
  const tokens = token === null ? marked : [token];
  byId("tip").hidden = tokens.length === 0;
  byId("tip").textContent = tokens.map(tracksTold).join(" · ");
}

function setTheme(name) {
  theme = name;
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  byId("theme").textContent = { system: "Colours: system", light: "Colours: light", dark: "Colours: dark" }[name];
  redraw();
}

function redraw() {
  showLegend();
  if (paeView.read) paintPae();
  drawPae();
  drawTracks();
  restyle();
}

function showHead() {
  const run = record.run;
  const parts = [`Foldline ${run.foldline || record.foldline}`, run.model && String(run.model).split("/").pop(), `${grouped(record.n_token)} tokens`,
    run.n_atom && `${grouped(run.n_atom)} atoms`, `${record.chains.length} chain${record.chains.length === 1 ? "" : "s"}`,
    `${record.samples.length} sample${record.samples.length === 1 ? "" : "s"}`];
  byId("run-line").replaceChildren(...parts.filter(Boolean).map((text) => element("span", { text })));
  document.title = `${record.name} · Foldline`;
}

function wire() {
  paeView.onMove = (cursor) => moveTracks(cursor ? [cursor.row, cursor.column] : null, false);
  paeView.onMark = mark;
  tracksView.onMove = (tokens) => { paeView.cursor = tokens ? { row: tokens[0], column: tokens[0] } : null; drawPae(); };
  tracksView.onMark = mark;
  switchOf("colour", "colour", [["plddt", "pLDDT"], ["chain", "Chain"], ["element", "Element"]], "plddt", (value) => {
    structureView.colour = value; showLegend(); restyle();
  });
  switchOf("shape", "shape", [["cartoon", "Ribbon"], ["sticks", "All atoms"]], "cartoon", (value) => { structureView.shape = value; restyle(); });
  switchOf("pairs-kind", "pairs-kind", [["iptm", "ipTM"], ["pae", "Smallest PAE"]], "iptm", (value) => { pairsView.kind = value; showPairs(); });
  byId("reset").addEventListener("click", () => { mark([]); resetView(); });
  structureView.onPoint = (token) => {
    tip(token);
    moveTracks(token === null ? null : [token]);
  };
  structureView.onMark = mark;
  byId("previous").addEventListener("click", () => choose(Math.max(0, current - 1)));
  byId("next").addEventListener("click", () => choose(Math.min(shown.length - 1, current + 1)));
  byId("viewer").addEventListener("keydown", viewerKeys);
  byId("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  const resized = new ResizeObserver(() => { drawPae(); drawTracks(); });
  resized.observe(byId("pae"));
  resized.observe(byId("tracks"));
}

async function start() {
  showHead();
  showWarnings();
  samplesRail(choose);
  scoresTable(choose);
  stagesTable();
  factsList();
  wire();
  setTheme("system");
  const reading = Promise.all([readTopology(), readDepth()]);
  try {
    openViewer();
    byId("viewer-message").hidden = true;
  } catch (fault) {
    byId("viewer-message").textContent = `The structure cannot be drawn: ${fault.message}. All else on this page works.`;
  }
  let depth;
  [topology, depth] = await reading;
  openPae(topology);
  openTracks(topology, depth);
  await choose(0);
  document.documentElement.dataset.ready = "yes";
  performance.mark("ready");
}

start().catch((fault) => {
  byId("viewer-message").hidden = false;
  byId("viewer-message").textContent = `This page cannot be drawn: ${fault.message}. It needs a browser of 2023 or later.`;
});
