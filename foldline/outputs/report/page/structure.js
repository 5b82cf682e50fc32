// The structure in 3Dmol.js: made from the shared topology and a sample's coordinates, so that bonds are those of the file.

const structureView = { viewer: null, model: null, colour: "plddt", shape: "cartoon", placed: false, onPoint: () => {}, onMark: () => {} };

function openViewer() {
  if (typeof $3Dmol === "undefined") throw new Error("3Dmol.js did not start");
  const probe = document.createElement("canvas");
  const context = probe.getContext("webgl2") || probe.getContext("webgl");
  if (!context) throw new Error("this browser has no WebGL");
  // Without a graphics card every pixel is the processor's work: large structures are drawn plainer there.
  const names = context.getExtension("WEBGL_debug_renderer_info");
  const renderer = String(context.getParameter(names ? names.UNMASKED_RENDERER_WEBGL : context.RENDERER));
  const plain = record.n_token > 600 && /swiftshader|llvmpipe|softpipe|software|basic render/i.test(renderer);
  context.getExtension("WEBGL_lose_context")?.loseContext();
  structureView.viewer = $3Dmol.createViewer(byId("viewer"), {
    backgroundColor: cssColour("--well"), antialias: !plain, cartoonQuality: plain ? 5 : 10,
  });
  if (!structureView.viewer) throw new Error("this browser cannot open a WebGL view");
}

// Atoms that stand for their residue when the structure is pointed at.
const ANCHORS = new Set(["CA", "C1'", "P", "C3'"]);

function atomsOf(read, secondary, topology) {
  const atoms = new Array(topology.n_atom);
  for (let i = 0; i < topology.n_atom; i++) {
    const residue = topology.atom_res[i];
    const chain = record.chains[topology.res_chain[residue]];
    atoms[i] = {
      x: read.xyz[3 * i], y: read.xyz[3 * i + 1], z: read.xyz[3 * i + 2],
      elem: topology.elements[topology.element[i]],
      atom: topology.names[topology.atom_name[i]],
      resn: topology.res_name[residue],
      resi: topology.res_id[residue],
      chain: chain.id,
      hetflag: chain.kind === "ligand",
      b: read.atomPlddt[i],
      ss: secondary[residue],
      serial: i + 1,
      index: i,
      bonds: [],
      bondOrder: [],
      properties: { residue: read.resPlddt[residue], chain: topology.res_chain[residue], token: topology.atom_token[i], single: topology.token_atoms[topology.atom_token[i]] === 1 },
    };
  }
  for (let i = 0; i < topology.bonds.length; i += 3) {
    const [a, b, order] = [topology.bonds[i], topology.bonds[i + 1], topology.bonds[i + 2]];
    atoms[a].bonds.push(b); atoms[a].bondOrder.push(order);
    atoms[b].bonds.push(a); atoms[b].bondOrder.push(order);
  }
  return atoms;
}

function showStructure(read, secondary, topology) {
  const { viewer } = structureView;
  if (!viewer) return;
  viewer.removeAllModels();
  viewer.removeAllShapes();
  structureView.model = viewer.addModel();
  structureView.model.addAtoms(atomsOf(read, secondary, topology));
  const pointed = { predicate: (atom) => atom.hetflag || atom.properties.single || ANCHORS.has(atom.atom) };
  viewer.setHoverable(pointed, true, (atom) => structureView.onPoint(atom.properties.token), () => structureView.onPoint(null));
  viewer.setClickable(pointed, true, (atom) => structureView.onMark([atom.properties.token]));
  styleStructure();
  if (!structureView.placed) {
    frame();
    structureView.placed = true;
  }
  viewer.render();
}

// The whole structure in view; 3Dmol fits it to the height of the view alone.
function frame() {
  const box = byId("viewer");
  structureView.viewer.zoomTo();
  structureView.viewer.zoom(1.06 * Math.min(1, box.clientWidth / box.clientHeight));
}

const ELEMENT_COLOURS = { N: "#3a64d8", O: "#d8392b", S: "#c9a227", P: "#e07b1a", F: "#4fa83d", Cl: "#3b9c3b", Br: "#8f3b2a", I: "#6d2c91", Fe: "#c0571f", Zn: "#6f7a8f", Mg: "#3b8f5a", Ca: "#4d7f4d", Na: "#7a55c8", K: "#8a55b8", Mn: "#8a63a8", Cu: "#b87333", Se: "#d0902a" };

function atomColour(atom) {
  if (structureView.colour === "plddt") return plddtColour(atom.b);
  const carbon = structureView.colour === "chain" ? chainColour(atom.properties.chain) : cssColour("--carbon");
  return ELEMENT_COLOURS[atom.elem] || carbon;
}

function ribbonColour(atom) {
  if (structureView.colour === "plddt") return plddtColour(atom.properties.residue);
  return structureView.colour === "chain" ? chainColour(atom.properties.chain) : cssColour("--carbon");
}

// Polymers as ribbons, what is no polymer as sticks, lone atoms as spheres; modified residues have sticks beside the ribbon.
function styleStructure() {
  const { viewer } = structureView;
  const sticks = { stick: { colorfunc: atomColour, radius: 0.26 } };
  const ribbon = { colorfunc: ribbonColour, arrows: true };
  viewer.setStyle({ hetflag: true }, sticks);
  viewer.setStyle({ hetflag: false }, structureView.shape === "cartoon" ? { cartoon: ribbon } : { stick: { colorfunc: atomColour, radius: 0.14 } });
  if (structureView.shape === "cartoon") {
    viewer.addStyle({ hetflag: false, predicate: (atom) => atom.properties.single }, { stick: { colorfunc: atomColour, radius: 0.16 } });
  }
  viewer.setStyle({ hetflag: true, predicate: (atom) => atom.bonds.length === 0 }, { sphere: { colorfunc: atomColour, radius: 1.1 } });
}

function dress() {
  const { viewer } = structureView;
  viewer.setBackgroundColor(cssColour("--well"));
  viewer.setViewStyle({ style: "outline", color: cssColour("--outline"), width: 0.012 });
}

function restyle() {
  if (!structureView.viewer) return;
  dress();
  styleStructure();
  structureView.viewer.render();
}

// Spheres around the middle of tokens.
function markTokens(tokens, read, topology) {
  const { viewer } = structureView;
  if (!viewer) return;
  viewer.removeAllShapes();
  for (const token of new Set(tokens)) {
    let [x, y, z] = [0, 0, 0];
    const n = topology.token_atoms[token];
    for (let i = topology.token_first[token]; i < topology.token_first[token] + n; i++) {
      x += read.xyz[3 * i] / n; y += read.xyz[3 * i + 1] / n; z += read.xyz[3 * i + 2] / n;
    }
    viewer.addSphere({ center: { x, y, z }, radius: n > 1 ? 2.4 : 1.1, color: cssColour("--accent"), opacity: 0.75 });
  }
  viewer.render();
}

function viewerKeys(event) {
  const { viewer } = structureView;
  const turns = { ArrowLeft: [-10, "y"], ArrowRight: [10, "y"], ArrowUp: [-10, "x"], ArrowDown: [10, "x"] };
  if (!viewer || event.ctrlKey || event.metaKey || event.altKey) return;
  if (turns[event.key]) viewer.rotate(...turns[event.key]);
  else if (event.key === "+" || event.key === "=") viewer.zoom(1.15);
  else if (event.key === "-") viewer.zoom(1 / 1.15);
  else if (event.key === "0") resetView();
  else return;
  viewer.render();
  event.preventDefault();
}

function resetView() {
  const { viewer } = structureView;
  if (!viewer) return;
  viewer.setView([0, 0, 0, 0, 0, 0, 0, 1]);
  frame();
  viewer.render();
}
