// Draws strokes, sends the drawing, and shows what comes back. One request is under way at a time; the next one has the latest drawing.
"use strict";

const SENT_SIDE = 140; // pixels, as draw.py expects
const STROKE = 22; // pixels of the 280 of the canvas: MNIST's strokes are about as thick for their size
const LONGEST_WAIT = 10_000; // milliseconds

const byId = (id) => document.getElementById(id);
const canvas = byId("canvas");
const context = canvas.getContext("2d");
const sent = new OffscreenCanvas(SENT_SIDE, SENT_SIDE).getContext("2d", { willReadFrequently: true });
let strokes = []; // of points
let pointer = null; // its id, while it draws; others (a palm, a second finger) do not
let changed = false;
let waiting = false;
let takenBack = 0; // how often something was undone or cleared: an answer from before is of a drawing that is gone

const rows = [...Array(10).keys()].map((digit) => {
  const row = byId("probabilities").insertRow();
  row.append(Object.assign(document.createElement("th"), { textContent: digit }));
  const bar = document.createElement("div");
  const outer = row.insertCell();
  outer.append(Object.assign(document.createElement("div"), { className: "bar" }));
  outer.firstChild.append(bar);
  return { bar, text: row.insertCell() };
});

function point(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
}

function line(from, to) {
  context.strokeStyle = "#fff";
  context.lineWidth = STROKE;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  context.moveTo(...from);
  context.lineTo(...to);
  context.stroke();
}

function extend(to) {
  const points = strokes.at(-1);
  line(points.at(-1) ?? to, to);
  points.push(to);
  update();
}

function update() {
  byId("hint").hidden = strokes.length > 0;
  byId("undo").disabled = byId("clear").disabled = strokes.length === 0;
  changed = true;
  ask();
}

function keep(count) {
  strokes = strokes.slice(0, count);
  pointer = null;
  takenBack += 1;
  context.clearRect(0, 0, canvas.width, canvas.height);
  for (const points of strokes) points.forEach((to, i) => line(points[Math.max(0, i - 1)], to));
  show({});
  update();
}

canvas.addEventListener("pointerdown", (event) => {
  if (pointer !== null || event.button !== 0) return;
  pointer = event.pointerId;
  canvas.setPointerCapture(pointer);
  strokes.push([]);
  extend(point(event));
});
canvas.addEventListener("pointermove", (event) => {
  if (event.pointerId === pointer) for (const each of event.getCoalescedEvents?.() ?? [event]) extend(point(each));
});
for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, (event) => {
    if (event.pointerId === pointer) pointer = null;
  });
}
byId("undo").addEventListener("click", () => keep(-1));
byId("clear").addEventListener("click", () => keep(0));
document.addEventListener("keydown", (event) => {
  if (!(event.ctrlKey || event.metaKey) || event.shiftKey || event.key.toLowerCase() !== "z") return;
  event.preventDefault();
  if (strokes.length > 0) keep(-1);
});

async function ask() {
  if (waiting || !changed) return;
  waiting = true;
  changed = false;
  if (strokes.length > 0) await look();
  setTimeout(() => {
    waiting = false;
    ask();
  }, 50);
}

async function look() {
  const before = takenBack;
  sent.fillRect(0, 0, SENT_SIDE, SENT_SIDE);
  sent.drawImage(canvas, 0, 0, SENT_SIDE, SENT_SIDE);
  const grey = sent.getImageData(0, 0, SENT_SIDE, SENT_SIDE).data.filter((_, i) => i % 4 === 0);
  try {
    const response = await fetch("look", { method: "POST", body: grey, signal: AbortSignal.timeout(LONGEST_WAIT) });
    if (!response.ok) throw new Error(response.statusText);
    const answer = await response.json();
    if (takenBack === before) show(answer);
  } catch {
    if (takenBack !== before) return;
    show({});
    byId("digit").textContent = "nothing: the server has ended";
  }
}

function show({ probabilities, image, layers }) {
  rows.forEach(({ bar, text }, digit) => {
    const percent = probabilities ? 100 * probabilities[digit] : 0;
    bar.style.width = `${percent}%`;
    text.textContent = probabilities ? `${percent.toFixed(1)} %` : "";
  });
  byId("digit").textContent = probabilities ? probabilities.indexOf(Math.max(...probabilities)) : "nothing yet";
  const seen = byId("seen");
  if (image) paint(seen, image, 0);
  else seen.getContext("2d").clearRect(0, 0, seen.width, seen.height);
  byId("inside").hidden = !layers?.length; // an .onnx file does not show its layers
  byId("layers").replaceChildren(...(layers ?? []).map(layerRow));
}

function layerRow({ name, maps }) {
  const row = Object.assign(document.createElement("div"), { className: "layer" });
  const title = `${name}, ${maps.count} × ${maps.height} × ${maps.width}`;
  row.append(Object.assign(document.createElement("span"), { textContent: title }));
  for (let i = 0; i < maps.count; i++) row.append(paint(document.createElement("canvas"), maps, i));
  return row;
}

function paint(target, { width, height, pixels }, index) {
  [target.width, target.height] = [width, height];
  const bytes = atob(pixels);
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    image.data.fill(bytes.charCodeAt(index * width * height + i), 4 * i, 4 * i + 3);
    image.data[4 * i + 3] = 255;
  }
  target.getContext("2d").putImageData(image, 0, 0);
  return target;
}

fetch("source").then((response) => response.json()).then(({ source }) => (byId("source").textContent = source));
