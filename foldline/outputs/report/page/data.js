// The record of the result, and its packed arrays when they are needed.

const record = JSON.parse(document.getElementById("record").textContent);
const shown = record.samples.filter((sample) => sample.xyz !== undefined);

async function unpacked(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  const stream = new DecompressionStream("deflate");
  const writer = stream.writable.getWriter();
  const written = writer.write(bytes).then(() => writer.close());
  const [buffer] = await Promise.all([new Response(stream.readable).arrayBuffer(), written]);
  return new Uint8Array(buffer);
}

// 16-bit values that were stored as all low bytes, then all high bytes.
function joined(bytes) {
  const n = bytes.length / 2;
  const values = new Uint16Array(n);
  for (let i = 0; i < n; i++) values[i] = bytes[i] | (bytes[n + i] << 8);
  return values;
}

function summed(differences) {
  let total = 0;
  return differences.map((difference) => (total += difference));
}

async function readTopology() {
  const t = JSON.parse(new TextDecoder().decode(await unpacked(record.topology)));
  t.atom_res = summed(t.atom_res);
  t.atom_token = summed(t.atom_token);
  for (let i = 3; i < t.bonds.length; i++) t.bonds[i] += t.bonds[i - 3];
  t.n_atom = t.atom_res.length;
  t.token_res = new Array(record.n_token);
  t.token_atoms = new Array(record.n_token).fill(0);
  t.token_first = new Array(record.n_token);
  t.atom_res.forEach((residue, atom) => {
    const token = t.atom_token[atom];
    t.token_res[token] = residue;
    if (t.token_atoms[token]++ === 0) t.token_first[token] = atom;
  });
  t.res_atoms = new Array(t.res_id.length).fill(0);
  t.atom_res.forEach((residue) => t.res_atoms[residue]++);
  return t;
}

async function readDepth() {
  const bytes = await unpacked(record.depth);
  return new Uint32Array(bytes.buffer, 0, record.n_token);
}

// Coordinates, pLDDT per atom, token and residue, and the PAE of a sample; kept once they were read.
const readSamples = new Map();
async function readSample(number, topology) {
  if (readSamples.has(number)) return readSamples.get(number);
  const sample = shown[number];
  const [steps, plddt, pae] = await Promise.all([unpacked(sample.xyz), unpacked(sample.plddt), unpacked(sample.pae)]);
  const n = topology.n_atom;
  const xyz = new Float32Array(3 * n);
  const differences = joined(steps);
  for (let axis = 0, place = 0; axis < 3; axis++, place = 0) {
    for (let i = 0; i < n; i++) {
      place = ((place + differences[axis * n + i]) << 16) >> 16;
      xyz[3 * i + axis] = place * record.scale;
    }
  }
  const size = record.pae.size;
  for (let i = size; i < pae.length; i++) pae[i] += pae[i - size];
  const atomPlddt = Float32Array.from(joined(plddt), (value) => value / 100);
  const tokenPlddt = new Float32Array(record.n_token);
  const resPlddt = new Float32Array(topology.res_id.length);
  for (let i = 0; i < n; i++) {
    tokenPlddt[topology.atom_token[i]] += atomPlddt[i] / topology.token_atoms[topology.atom_token[i]];
    resPlddt[topology.atom_res[i]] += atomPlddt[i] / topology.res_atoms[topology.atom_res[i]];
  }
  const read = { xyz, atomPlddt, tokenPlddt, resPlddt, pae };
  readSamples.set(number, read);
  return read;
}

const PLDDT_CLASSES = [
  { above: 90, colour: "#0053d6", words: "Very high", range: "over 90" },
  { above: 70, colour: "#65cbf3", words: "Confident", range: "70 to 90" },
  { above: 50, colour: "#ffdb13", words: "Low", range: "50 to 70" },
  { above: -1, colour: "#ff7d45", words: "Very low", range: "under 50" },
];
const plddtColour = (value) => PLDDT_CLASSES.find((entry) => value > entry.above).colour;
const CHAIN_COLOURS = ["#3f7f93", "#b0603c", "#7a6fb0", "#6f8f3a", "#b04f7d", "#8a7440", "#4d6f9f", "#5b8f78"];
const chainColour = (chain) => CHAIN_COLOURS[chain % CHAIN_COLOURS.length];

const fixed = (value, decimals) => (value === null || value === undefined ? "–" : value.toFixed(decimals).replace("-", "−"));
const grouped = (value) => String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f");
const gib = (bytes) => (bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(2)} GiB` : `${(bytes / 2 ** 20).toFixed(0)} MiB`);
const sampleName = (sample) => `seed ${sample.seed} · sample ${sample.sample}`;

function chainOfToken(token) {
  return record.chains.findIndex((chain) => token >= chain.first && token < chain.stop);
}

// "A 52 GLY", with the atom's name where an atom is a token.
function tokenName(token, topology) {
  const residue = topology.token_res[token];
  const chain = record.chains[chainOfToken(token)].id;
  const atom = topology.token_atoms[token] === 1 && topology.res_atoms[residue] > 1
    ? ` ${topology.names[topology.atom_name[topology.token_first[token]]]}` : "";
  return `${chain} ${topology.res_id[residue]} ${topology.res_name[residue]}${atom}`;
}

// An element with text, classes and children; text is never read as HTML.
function element(tag, options = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(options)) {
    if (key === "text") made.textContent = value;
    else if (key === "style") Object.entries(value).forEach(([name, given]) => made.style.setProperty(name, given));
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

const byId = (id) => document.getElementById(id);
const cssColour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// A canvas as large as its box, in device pixels; draws with CSS pixels.
function sizedContext(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}

const CANVAS_FONT = '12px "Avenir Next", "Segoe UI", "Helvetica Neue", "Liberation Sans", Arial, sans-serif';

// Round numbers between 0 and a length, about `count` of them.
function ticks(length, count) {
  const rough = length / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(Math.max(1, rough)));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const found = [];
  for (let at = step; at <= length; at += step) found.push(at);
  return found;
}
