// The map of predicted aligned error: row = token that is aligned on, column = token whose error is scored.

const paeView = { image: null, read: null, topology: null, box: null, cursor: null, onMove: () => {}, onMark: () => {} };
const PAE_FULL = 30; // Å, the end of the colour scale

function paeRamp() {
  const ends = ["--pae-low", "--pae-middle", "--pae-high"].map((name) => {
    const digits = cssColour(name);
    return [1, 3, 5].map((at) => parseInt(digits.slice(at, at + 2), 16));
  });
  const table = new Uint8ClampedArray(256 * 4);
  for (let value = 0; value < 256; value++) {
    const part = Math.min(1, value / record.pae.steps / PAE_FULL) * 2;
    const from = Math.min(1, Math.floor(part));
    for (let c = 0; c < 3; c++) table[4 * value + c] = ends[from][c] + (ends[from + 1][c] - ends[from][c]) * (part - from);
    table[4 * value + 3] = value === record.pae.unknown ? 0 : 255;
  }
  return table;
}

function paintPae() {
  const size = record.pae.size;
  const ramp = new Uint32Array(paeRamp().buffer);
  const pixels = new ImageData(size, size);
  const words = new Uint32Array(pixels.data.buffer);
  const { pae } = paeView.read;
  for (let i = 0; i < pae.length; i++) words[i] = ramp[pae[i]];
  paeView.image = document.createElement("canvas");
  paeView.image.width = paeView.image.height = size;
  paeView.image.getContext("2d").putImageData(pixels, 0, 0);
}

function drawPae() {
  if (!paeView.read) return;
  const canvas = byId("pae");
  const { context, width, height } = sizedContext(canvas);
  const left = 66, bottom = 62, strip = 7;
  const side = Math.min(width - left - 6, height - bottom - 6);
  const box = { x: left, y: 6, side };
  paeView.box = box;
  const scale = side / record.n_token;
  const cells = scale * record.pae.pool * record.pae.size;
  context.clearRect(0, 0, width, height);
  context.save();
  context.beginPath();
  context.rect(box.x, box.y, side, side);
  context.clip();
  context.fillStyle = cssColour("--well");
  context.fillRect(box.x, box.y, side, side);
  context.imageSmoothingEnabled = record.pae.size > side * (window.devicePixelRatio || 1);
  context.drawImage(paeView.image, box.x, box.y, cells, cells);
  context.restore();

  context.font = CANVAS_FONT;
  context.lineWidth = 1;
  context.strokeStyle = cssColour("--ink");
  context.globalAlpha = 0.55;
  for (const chain of record.chains.slice(1)) {
    const at = Math.round(chain.first * scale) + 0.5;
    context.beginPath();
    context.moveTo(box.x + at, box.y); context.lineTo(box.x + at, box.y + side);
    context.moveTo(box.x, box.y + at); context.lineTo(box.x + side, box.y + at);
    context.stroke();
  }
  context.globalAlpha = 1;
  context.strokeRect(box.x + 0.5, box.y + 0.5, side - 1, side - 1);

  record.chains.forEach((chain, number) => {
    const from = chain.first * scale, length = (chain.stop - chain.first) * scale;
    context.fillStyle = chainColour(number);
    context.fillRect(box.x - strip - 3, box.y + from, strip, Math.max(1, length - 0.5));
    context.fillRect(box.x + from, box.y + side + 3, Math.max(1, length - 0.5), strip);
    context.fillStyle = cssColour("--ink");
    if (length < 14) return;
    context.textBaseline = "middle"; context.textAlign = "right";
    context.fillText(chain.id, box.x - strip - 7, box.y + from + length / 2);
    context.textBaseline = "top"; context.textAlign = "center";
    if (length > context.measureText(chain.id).width) context.fillText(chain.id, box.x + from + length / 2, box.y + side + strip + 6);
  });
  context.fillStyle = cssColour("--muted");
  for (const token of ticks(record.n_token, side / 60)) {
    const at = (token - 0.5) * scale;
    context.textAlign = "right"; context.textBaseline = "middle";
    context.fillText(String(token), box.x - 25, box.y + at);
    context.textAlign = "center"; context.textBaseline = "top";
    context.fillText(String(token), box.x + at, box.y + side + 28);
  }
  context.textAlign = "center"; context.textBaseline = "bottom";
  context.fillText("scored token", box.x + side / 2, box.y + side + bottom - 1);
  context.save();
  context.translate(7, box.y + side / 2);
  context.rotate(-Math.PI / 2);
  context.textAlign = "center"; context.textBaseline = "middle";
  context.fillText("token aligned on", 0, 0);
  context.restore();
  if (paeView.cursor) {
    const x = box.x + (paeView.cursor.column + 0.5) * scale, y = box.y + (paeView.cursor.row + 0.5) * scale;
    context.strokeStyle = cssColour("--accent");
    context.lineWidth = 1.5;
    context.beginPath();
    context.moveTo(x, box.y); context.lineTo(x, box.y + side);
    context.moveTo(box.x, y); context.lineTo(box.x + side, y);
    context.stroke();
  }
}

function paeValue(row, column) {
  const { pool, size, steps, unknown } = record.pae;
  const value = paeView.read.pae[Math.floor(row / pool) * size + Math.floor(column / pool)];
  return value === unknown ? null : value / steps;
}

function paeTold(row, column) {
  const value = paeValue(row, column);
  const error = value === null ? "undefined" : `${value >= 31.75 ? "over 31" : value.toFixed(1)} Å`;
  return `${tokenName(column, paeView.topology)}, aligned on ${tokenName(row, paeView.topology)}: ${error}`;
}

function movePae(cursor) {
  paeView.cursor = cursor;
  byId("pae-readout").textContent = cursor ? paeTold(cursor.row, cursor.column) : "Point at the map to read a pair of tokens; click to mark both in the structure.";
  drawPae();
  paeView.onMove(cursor);
}

function paeAt(event) {
  const { box } = paeView;
  if (!box) return null;
  const column = Math.floor(((event.offsetX - box.x) / box.side) * record.n_token);
  const row = Math.floor(((event.offsetY - box.y) / box.side) * record.n_token);
  const inside = (value) => value >= 0 && value < record.n_token;
  return inside(row) && inside(column) ? { row, column } : null;
}

function openPae(topology) {
  const canvas = byId("pae");
  paeView.topology = topology;
  canvas.addEventListener("pointermove", (event) => movePae(paeAt(event)));
  canvas.addEventListener("pointerleave", () => movePae(null));
  canvas.addEventListener("click", (event) => {
    const cursor = paeAt(event);
    if (cursor) paeView.onMark([cursor.row, cursor.column]);
  });
  canvas.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 : 1;
    const moves = { ArrowLeft: [0, -step], ArrowRight: [0, step], ArrowUp: [-step, 0], ArrowDown: [step, 0] };
    const at = paeView.cursor || { row: 0, column: 0 };
    const within = (value) => Math.min(record.n_token - 1, Math.max(0, value));
    if (moves[event.key]) movePae({ row: within(at.row + moves[event.key][0]), column: within(at.column + moves[event.key][1]) });
    else if (event.key === "Enter" && paeView.cursor) paeView.onMark([at.row, at.column]);
    else if (event.key === "Escape") movePae(null);
    else return;
    event.preventDefault();
  });
  const { pool } = record.pae;
  byId("pae-note").textContent = pool > 1
    ? `Shown coarser than it is: each cell is the mean over ${pool} × ${pool} tokens. The confidences files have every value.`
    : "";
}

function showPae(read) {
  paeView.read = read;
  paintPae();
  movePae(paeView.cursor);
}
