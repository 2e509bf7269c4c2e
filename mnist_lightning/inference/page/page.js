// Draws strokes, sends the drawing, and shows what comes back. One request is under way at a time; the next one has the latest drawing.
"use strict";

const SENT_SIDE = 140; // pixels, as draw.py expects
const STROKE = 22; // pixels of the 280 of the canvas: MNIST's strokes are about as thick for their size

const byId = (id) => document.getElementById(id);
const canvas = byId("canvas");
const context = canvas.getContext("2d");
const sent = new OffscreenCanvas(SENT_SIDE, SENT_SIDE).getContext("2d", { willReadFrequently: true });
let last = null; // point of the stroke under way
let changed = false;
let waiting = false;

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

function stroke(to) {
  context.strokeStyle = "#fff";
  context.lineWidth = STROKE;
  context.lineCap = context.lineJoin = "round";
  context.beginPath();
  context.moveTo(...last);
  context.lineTo(...to);
  context.stroke();
  last = to;
  changed = true;
  ask();
}

canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  last = point(event);
  stroke(last);
});
canvas.addEventListener("pointermove", (event) => {
  if (last) for (const each of event.getCoalescedEvents?.() ?? [event]) stroke(point(each));
});
for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));
byId("clear").addEventListener("click", () => {
  context.clearRect(0, 0, canvas.width, canvas.height);
  changed = true;
  ask();
});

async function ask() {
  if (waiting || !changed) return;
  waiting = true;
  changed = false;
  sent.fillRect(0, 0, SENT_SIDE, SENT_SIDE);
  sent.drawImage(canvas, 0, 0, SENT_SIDE, SENT_SIDE);
  const grey = sent.getImageData(0, 0, SENT_SIDE, SENT_SIDE).data.filter((_, i) => i % 4 === 0);
  try {
    const response = await fetch("look", { method: "POST", body: grey });
    if (response.ok) show(await response.json());
  } catch {
    byId("digit").textContent = "nothing: the server has ended";
  }
  setTimeout(() => {
    waiting = false;
    ask();
  }, 50);
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
