// pLDDT and the depth of the alignments along all chains, on one axis of tokens.

const tracksView = { read: null, depth: null, topology: null, box: null, cursor: null, onMove: () => {}, onMark: () => {} };

function drawTracks() {
  if (!tracksView.read) return;
  const { context, width, height } = sizedContext(byId("tracks"));
  const left = 52, right = 6, top = 24, gap = 30, bottom = 22;
  const deep = record.chains.some((chain) => chain.rows > 1);
  const room = height - top - bottom - gap;
  const upper = { y: top, height: deep ? Math.round(room * 0.64) : room + gap };
  const lower = { y: upper.y + upper.height + gap, height: room - upper.height };
  const box = { x: left, width: width - left - right, y: top, height: height - top - bottom };
  tracksView.box = box;
  const scale = box.width / record.n_token;
  const xOf = (token) => box.x + token * scale;
  context.clearRect(0, 0, width, height);
  context.font = CANVAS_FONT;
  drawAxis(context, box, upper, [[0, "0"], [50, "50"], [70, "70"], [90, "90"], [100, "100"]], 100, "pLDDT");
  drawSkyline(context, box, upper);
  if (deep) {
    const most = Math.max(...record.chains.map((chain) => chain.rows));
    const marks = [[0, "0"], ...ticks(most, 3).map((value) => [value, grouped(value)])];
    drawAxis(context, box, lower, marks, most, "MSA rows");
    context.fillStyle = cssColour("--depth");
    context.beginPath();
    context.moveTo(box.x, lower.y + lower.height);
    for (let token = 0; token < record.n_token; token++) {
      const y = lower.y + lower.height * (1 - tracksView.depth[token] / most);
      context.lineTo(xOf(token), y);
      context.lineTo(xOf(token + 1), y);
    }
    context.lineTo(box.x + box.width, lower.y + lower.height);
    context.fill();
  }
  drawChains(context, box, xOf);
  if (tracksView.cursor !== null) {
    context.fillStyle = cssColour("--accent");
    for (const token of tracksView.cursor) context.fillRect(xOf(token + 0.5) - 0.75, box.y, 1.5, box.height);
  }
}

function drawAxis(context, box, panel, marks, most, words) {
  context.textAlign = "right"; context.textBaseline = "middle";
  for (const [value, text] of marks) {
    const y = Math.round(panel.y + panel.height * (1 - value / most)) + 0.5;
    context.strokeStyle = cssColour("--line");
    context.beginPath(); context.moveTo(box.x, y); context.lineTo(box.x + box.width, y); context.stroke();
    context.fillStyle = cssColour("--muted");
    context.fillText(text, box.x - 6, y);
  }
  context.save();
  context.translate(10, panel.y + panel.height / 2);
  context.rotate(-Math.PI / 2);
  context.textAlign = "center";
  context.fillText(words, 0, 0);
  context.restore();
}

// A column per token (or, where tokens are narrower than pixels, per pixel: their mean) in the colour of its class.
function drawSkyline(context, box, panel) {
  const columns = Math.min(record.n_token, Math.floor(box.width));
  const line = [];
  for (let i = 0; i < columns; i++) {
    const from = Math.floor((i * record.n_token) / columns), to = Math.floor(((i + 1) * record.n_token) / columns);
    let mean = 0;
    for (let token = from; token < to; token++) mean += tracksView.read.tokenPlddt[token] / (to - from);
    const x = box.x + (i * box.width) / columns, y = panel.y + panel.height * (1 - mean / 100);
    const next = box.x + ((i + 1) * box.width) / columns;
    context.fillStyle = plddtColour(mean);
    context.globalAlpha = 0.85;
    context.fillRect(x, y, next - x + 0.4, panel.y + panel.height - y);
    line.push([x, y, next]);
  }
  context.globalAlpha = 1;
  context.strokeStyle = cssColour("--ink");
  context.lineWidth = 1.2;
  context.lineJoin = "round";
  context.beginPath();
  for (const [x, y, next] of line) { context.lineTo(x, y); context.lineTo(next, y); }
  context.stroke();
  context.lineWidth = 1;
}

function drawChains(context, box, xOf) {
  record.chains.forEach((chain, number) => {
    const from = xOf(chain.first), to = xOf(chain.stop);
    context.fillStyle = chainColour(number);
    context.fillRect(from, box.y - 7, Math.max(1, to - from - 1), 5);
    context.fillStyle = cssColour("--ink");
    context.textAlign = "left"; context.textBaseline = "bottom";
    if (to - from > context.measureText(chain.id).width + 2) context.fillText(chain.id, from, box.y - 8);
    if (number > 0) {
      context.globalAlpha = 0.5;
      context.fillRect(Math.round(from), box.y, 1, box.height);
      context.globalAlpha = 1;
    }
    context.fillStyle = cssColour("--muted");
    context.textBaseline = "top"; context.textAlign = "center";
    if (chain.kind === "ligand" || to - from < 90) return;
    for (const residue of ticks(chain.residues, Math.floor((to - from) / 90))) {
      const x = xOf(chain.first + ((residue - 0.5) * (chain.stop - chain.first)) / chain.residues);
      if (to - x > 14 && x - from > 14) context.fillText(String(residue), x, box.y + box.height + 5);
    }
  });
}

function tracksTold(token) {
  const depth = tracksView.depth[token];
  const rows = depth > 1 ? `, ${grouped(depth)} MSA rows` : "";
  return `${tokenName(token, tracksView.topology)}: pLDDT ${tracksView.read.tokenPlddt[token].toFixed(1)}${rows}`;
}

function moveTracks(tokens, tell = true) {
  tracksView.cursor = tokens;
  byId("tracks-readout").textContent = tokens ? [...new Set(tokens)].map(tracksTold).join(" · ") : "";
  drawTracks();
  if (tell) tracksView.onMove(tokens);
}

function openTracks(topology, depth) {
  const canvas = byId("tracks");
  tracksView.topology = topology;
  tracksView.depth = depth;
  const at = (event) => {
    const token = Math.floor(((event.offsetX - tracksView.box.x) / tracksView.box.width) * record.n_token);
    return token >= 0 && token < record.n_token ? [token] : null;
  };
  canvas.addEventListener("pointermove", (event) => tracksView.box && moveTracks(at(event)));
  canvas.addEventListener("pointerleave", () => moveTracks(null));
  canvas.addEventListener("click", (event) => { const tokens = at(event); if (tokens) tracksView.onMark(tokens); });
  canvas.addEventListener("keydown", (event) => {
    const step = (event.shiftKey ? 10 : 1) * ({ ArrowLeft: -1, ArrowRight: 1 }[event.key] || 0);
    const token = tracksView.cursor ? tracksView.cursor[0] : 0;
    if (step) moveTracks([Math.min(record.n_token - 1, Math.max(0, token + step))]);
    else if (event.key === "Enter" && tracksView.cursor) tracksView.onMark(tracksView.cursor);
    else if (event.key === "Escape") moveTracks(null);
    else return;
    event.preventDefault();
  });
  const notes = new Map();
  for (const chain of record.chains) {
    if (chain.kind === "ligand") continue;
    const words = chain.msa || `${grouped(chain.rows)} rows in the alignment`;
    notes.set(words, [...(notes.get(words) || []), chain.id]);
  }
  for (const [words, ids] of notes) byId("tracks-note").append(element("li", { text: `Chain ${ids.join(", ")}: ${words}.` }));
  byId("tracks-note").append(element("li", { text: "pLDDT of a token is the mean over its atoms." }));
}
