// Scores of the samples, scores of the chains, and how the result was made.

function samplesRail(choose) {
  const rail = byId("rail");
  byId("rail-note").textContent = shown.length < record.samples.length
    ? `The best ${shown.length} of ${record.samples.length}; the table below has all.`
    : `Best first, by ranking score.`;
  shown.forEach((sample, number) => {
    const canvas = element("canvas", { class: "strip", "aria-hidden": "true" });
    const input = element("input", { type: "radio", name: "sample", value: number, id: `sample-${number}` });
    input.addEventListener("change", () => choose(number));
    const label = element("label", { class: "rail-item", for: `sample-${number}` }, input,
      element("span", { class: "rail-rank", text: String(number + 1) }),
      element("span", { class: "rail-name", text: sampleName(sample) }),
      element("span", { class: "rail-score", text: fixed(sample.ranking_score, 2) }), canvas);
    rail.append(label);
    byId("choose").append(element("option", { value: number, text: `${number + 1}. ${sampleName(sample)} (${fixed(sample.ranking_score, 2)})` }));
    paintStrip(canvas, record.strips[number]);
  });
  byId("choose").addEventListener("change", (event) => choose(Number(event.target.value)));
}

async function paintStrip(canvas, text) {
  const means = await unpacked(text);
  canvas.width = means.length;
  canvas.height = 1;
  const context = canvas.getContext("2d");
  means.forEach((mean, i) => { context.fillStyle = plddtColour(mean); context.fillRect(i, 0, 1, 1); });
}

const SCORE_COLUMNS = [
  ["Ranking score", (sample) => fixed(sample.ranking_score, 2)],
  ["ipTM", (sample) => fixed(sample.iptm, 2)],
  ["pTM", (sample) => fixed(sample.ptm, 2)],
  ["Mean pLDDT", (sample) => fixed(sample.mean_plddt, 1)],
  ["Disordered", (sample) => fixed(sample.fraction_disordered === null ? null : 100 * sample.fraction_disordered, 0) + (sample.fraction_disordered === null ? "" : " %")],
  ["Clash", (sample) => (sample.has_clash ? "yes" : "no")],
  ["RMSD to best", (sample) => (sample === record.samples[0] ? "–" : `${fixed(sample.rmsd, 1)} Å`)],
];

function scoresTable(choose) {
  const head = element("tr", {}, element("th", { scope: "col", text: "Rank" }), element("th", { scope: "col", text: "Sample" }));
  SCORE_COLUMNS.forEach(([name]) => head.append(element("th", { scope: "col", class: "number", text: name })));
  const body = element("tbody");
  record.samples.forEach((sample, number) => {
    const row = element("tr", { "data-sample": number });
    row.append(element("td", { class: "number", text: String(number + 1) }));
    const name = element("th", { scope: "row" });
    if (number < shown.length) {
      const button = element("button", { type: "button", class: "link", text: sampleName(sample) });
      button.addEventListener("click", () => choose(number));
      name.append(button);
    } else name.textContent = sampleName(sample);
    row.append(name);
    SCORE_COLUMNS.forEach(([heading, told]) => row.append(element("td", {
      class: heading === "Clash" && sample.has_clash ? "number bad" : "number", text: told(sample),
    })));
    body.append(row);
  });
  byId("scores").append(element("thead", {}, head), body);
  const notes = ["Higher is better, but for the share of disorder."];
  if (record.chains.length === 1) notes.push("A single chain has no ipTM.");
  if (record.samples.some((sample) => sample.has_clash)) notes.push("Chains of samples with a clash run through each other: their ranking score is lowered by 100.");
  if (shown.length < record.samples.length) notes.push(`The page holds the structures of the best ${shown.length} samples; the others are in the folder.`);
  byId("scores-note").textContent = notes.join(" ");
}

function showVerdict(sample) {
  const list = byId("verdict");
  const clash = sample.has_clash ? "yes" : "none";
  const disorder = sample.fraction_disordered === null ? "–" : `${Math.round(100 * sample.fraction_disordered)} %`;
  const entries = [
    ["Ranking score", fixed(sample.ranking_score, 2)], ["ipTM", fixed(sample.iptm, 2)], ["pTM", fixed(sample.ptm, 2)],
    ["Mean pLDDT", fixed(sample.mean_plddt, 1)], ["Disordered", disorder], ["Clash", clash],
  ];
  list.replaceChildren(...entries.map(([name, value]) => element("div", { class: name === "Clash" && sample.has_clash ? "bad" : "" },
    element("dt", { text: name }), element("dd", { text: value }))));
}

const pairsView = { kind: "iptm", sample: null };

function showPairs(sample = pairsView.sample) {
  pairsView.sample = sample;
  const iptm = pairsView.kind === "iptm";
  const values = iptm ? sample.chain_pair_iptm : sample.chain_pair_pae_min;
  const head = element("tr", {}, element("td"));
  record.chains.forEach((chain) => head.append(element("th", { scope: "col", text: chain.id })));
  const body = element("tbody");
  record.chains.forEach((chain, i) => {
    const kind = chain.components.length ? chain.components.slice(0, 3).join(", ") + (chain.components.length > 3 ? ", …" : "") : chain.kind === "protein" ? "protein" : chain.kind.toUpperCase();
    const row = element("tr", {}, element("th", { scope: "row" },
      element("i", { class: "swatch", style: { background: chainColour(i) } }), element("b", { text: chain.id }), ` ${kind}`));
    values[i].forEach((value, j) => {
      const strength = value === null ? 0 : iptm ? value : Math.max(0, 1 - value / PAE_FULL);
      row.append(element("td", { class: i === j ? "number own" : "number", style: { "--part": `${Math.round(70 * strength)}%` }, text: fixed(value, iptm ? 2 : 1),
        title: iptm ? (i === j ? `pTM of chain ${chain.id}` : `ipTM of ${chain.id} and ${record.chains[j].id}`) : `smallest PAE, ${record.chains[j].id} aligned on ${chain.id}` }));
    });
    body.append(row);
  });
  byId("pairs").replaceChildren(element("thead", {}, head), body);
  byId("pairs-note").textContent = iptm
    ? "ipTM of each pair of chains; on the diagonal the pTM of each chain. A dash is undefined, as for an ion."
    : "Smallest predicted aligned error, in Å, of a token of the column's chain aligned on one of the row's chain.";
}

const STAGE_NAMES = { features: "Features", trunk: "Trunk", diffusion: "Diffusion", confidence: "Confidence", write: "Writing" };

// The timed stage that a step of the plan belongs to; everything before the diffusion is the trunk.
function stageOf(step, timed) {
  if (timed.includes(step)) return step;
  return ["diffusion", "confidence"].find((name) => step.startsWith(name)) || "trunk";
}

function stagesTable() {
  const seconds = record.run.seconds || {}, bytes = (record.run.plan || {}).stage_bytes || {};
  const timed = Object.keys(seconds).filter((name) => name !== "total");
  const steps = Object.keys(bytes);
  const names = [...new Set([...timed, ...steps.map((step) => stageOf(step, timed))])];
  const table = byId("stages");
  if (!names.length) {
    byId("stages-note").textContent = "The record of the run has no times.";
    return;
  }
  const longest = Math.max(...names.map((name) => seconds[name] || 0), 1e-9);
  const body = element("tbody");
  for (const name of names) {
    const own = steps.filter((step) => stageOf(step, timed) === name), spent = seconds[name];
    body.append(element("tr", {}, element("th", { scope: "row", text: STAGE_NAMES[name] || name }),
      element("td", { class: "bar" }, element("i", { style: { width: `${(100 * (spent || 0)) / longest}%` } })),
      element("td", { class: "number", text: spent === undefined ? "–" : `${spent.toFixed(1)} s` }),
      element("td", { class: "number", text: own.length ? gib(Math.max(...own.map((step) => bytes[step]))) : "–" })));
    for (const step of own.length > 1 ? own : []) {
      body.append(element("tr", { class: "step" }, element("th", { scope: "row", colspan: "3", text: step }), element("td", { class: "number", text: gib(bytes[step]) })));
    }
  }
  const head = element("tr", {}, element("th", { scope: "col", text: "Stage" }), element("td"),
    element("th", { scope: "col", class: "number", text: "Time" }), element("th", { scope: "col", class: "number", text: "Memory" }));
  const foot = element("tr", {}, element("th", { scope: "row", text: "Whole job" }), element("td"),
    element("td", { class: "number", text: seconds.total === undefined ? "–" : `${seconds.total.toFixed(1)} s` }),
    element("td", { class: "number", text: record.run.peak_bytes ? `${gib(record.run.peak_bytes)}*` : "–" }));
  table.append(element("thead", {}, head), body, element("tfoot", {}, foot));
  const perSeed = record.run.seconds_per_seed || [];
  const spentBy = (entry) => Object.entries(entry).filter(([key]) => key !== "seed").reduce((sum, [, value]) => sum + value, 0);
  const each = perSeed.length > 1 ? ` ${perSeed.map((entry) => `Seed ${entry.seed} took ${spentBy(entry).toFixed(1)} s`).join(", ")}.` : "";
  byId("stages-note").textContent = `Memory of a stage is what the plan foresaw${record.run.peak_bytes ? "; * was measured" : ""}.${each}`;
}

// What the record of a run says under these keys, in this order; keys that are not here follow under their own names.
const RUN_NAMES = {
  foldline: "Foldline", model: "Model", family: "Family", checkpoint_sha256: "Checkpoint SHA-256", device: "Device", torch: "PyTorch",
  n_token: "Tokens", n_atom: "Atoms", n_msa: "MSA rows given to the network", msa: "Alignments", trunk_passes: "Trunk passes",
  steps: "Diffusion steps", samples: "Samples per seed", seeds: "Seeds", mc_dropout: "Dropout",
};
const PLAN_NAMES = {
  bucket: "Padded to (tokens, atoms)", trunk_dtype: "Precision of the trunk", diffusion_dtype: "Precision of the diffusion", confidence_dtype: "Precision of the confidence",
  rows: "Rows at once", sample_batch: "Samples at once", seed_batch: "Seeds in one trunk pass", diffusion_batch: "Seeds × samples in one diffusion pass",
  job_batch: "Jobs in one pass", keep_biases: "Attention biases kept between steps", staged_weights: "Weights loaded stage by stage",
  park_template: "Pair tensor put away during templates", park_pair: "Pair tensor put away while sampling",
};
const TOLD_ELSEWHERE = ["plan", "seconds", "seconds_per_seed", "peak_bytes", "warnings", "fingerprint", "stage_bytes", "best"];

function told(value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return Number.isInteger(value) ? grouped(value) : String(value);
  if (Array.isArray(value)) return value.every((item) => typeof item !== "object") ? value.map(told).join(", ") : JSON.stringify(value);
  if (value !== null && typeof value === "object") return Object.entries(value).map(([key, item]) => `${key.replaceAll("_", " ")} ${told(item)}`).join(", ");
  return String(value);
}

function factsList() {
  const seeds = [...new Set(record.samples.map((sample) => sample.seed))].sort((a, b) => a - b).map(String);
  const run = { n_token: record.n_token, ...record.run, seeds };
  for (const [values, names] of [[run, RUN_NAMES], [record.run.plan || {}, PLAN_NAMES]]) {
    const keys = [...Object.keys(names), ...Object.keys(values).filter((key) => !(key in names))];
    for (const key of keys) {
      const value = values[key];
      if (TOLD_ELSEWHERE.includes(key) || value === undefined || value === null || value === "" || value.length === 0) continue;
      const text = told(value);
      byId("facts").append(element("div", { class: text.length > 40 ? "wide" : "" },
        element("dt", { text: names[key] || key.replaceAll("_", " ") }), element("dd", { text })));
    }
  }
}

function showWarnings() {
  if (!record.warnings.length) return;
  const box = byId("warnings");
  box.hidden = false;
  box.append(element("h2", { text: record.warnings.length === 1 ? "The run warns" : `The run has ${record.warnings.length} warnings` }),
    element("ul", {}, ...record.warnings.map((text) => element("li", { text }))));
}
