// The form, the canvas and the words; worker.js does the drawing.

const MAX_SEED = 2 ** 31 - 1;
const NO_LABEL = -1;
const find = (id) => document.getElementById(id);
const [canvas, progress, status, fields, species, guidance, steps, seed, stop, save] = [
  ...["canvas", "progress", "status", "fields", "species", "guidance", "steps", "seed"],
  ...["stop", "save"],
].map(find);
// The form may be filled in by the address: ?species=3&guidance=2&steps=20&seed=7
const asked = new URLSearchParams(location.search);

let worker;
let imageShape;
let drawing; // what is drawn, in words, and since when

/** Let offline.js keep the files that are loaded from now on; the page works without. */
async function keepFiles() {
  try {
    await navigator.serviceWorker.register("offline.js");
    await navigator.serviceWorker.ready;
  } catch {}
}

async function start() {
  say("Loading the network.");
  if (typeof WebAssembly !== "object") return fail("it has no WebAssembly");
  await Promise.race([keepFiles(), new Promise((resolve) => setTimeout(resolve, 3000))]);
  worker = new Worker("worker.js", { type: "module" });
  worker.onerror = (event) => fail(event.message || "the worker does not start");
  worker.onmessage = ({ data }) => {
    if (data.ready) prepare(data.ready);
    else if (data.error) fail(data.error);
    else if (data.step) show(data);
    else finish(data.done);
  };
}

/** Fill in the form with what these weights can do. */
function prepare({ about, device, threads }) {
  imageShape = about.image_shape;
  [canvas.height, canvas.width] = imageShape;
  find("classes").hidden = about.class_names.length === 0;
  const labels = about.class_names.map((name, label) => [name, label]);
  labels.sort(([first], [second]) => first.localeCompare(second));
  setOptions(species, [...labels, ["any", NO_LABEL]]);
  setOptions(steps, about.tables.map(({ timesteps: { length } }) => [length, length]));
  steps.selectedIndex = Math.floor((about.tables.length - 1) / 2);
  guidance.value = about.guidance_scale;
  for (const field of [species, guidance, steps, seed])
    if (asked.has(field.id)) field.value = asked.get(field.id);
  for (const field of [species, steps]) if (field.selectedIndex < 0) field.selectedIndex = 0;
  guidance.oninput();
  fields.disabled = false;
  const [height, width] = imageShape;
  const where = device === "webgpu" ? "graphics processor" : `processor, threads: ${threads}`;
  say(`Ready. Pictures of ${width} by ${height} pixels, computed by the ${where}.`);
}

function setOptions(select, options) {
  select.replaceChildren(...options.map(([text, value]) => new Option(text, value)));
}

guidance.oninput = () => (find("strength").textContent = guidance.value);

find("form").onsubmit = (event) => {
  event.preventDefault();
  draw();
};

find("another").onclick = () => {
  seed.value = seed.valueAsNumber < MAX_SEED ? seed.valueAsNumber + 1 : 0;
  draw();
};

async function draw() {
  const label = Number(species.value);
  const name = label === NO_LABEL ? "picture" : species.selectedOptions[0].text;
  drawing = { words: `${name}, seed ${seed.value}`, since: performance.now() };
  fields.disabled = save.disabled = true;
  stop.disabled = false;
  stop.focus({ preventScroll: true });
  canvas.scrollIntoView({ block: "nearest" }); // on a phone the form is below it
  canvas.ariaLabel = `Unfinished: ${drawing.words}`;
  say(`Drawing: ${drawing.words}.`);
  const order = { label, scale: Number(guidance.value), steps: Number(steps.value) };
  try {
    const noise = asked.has("noise") ? await readNoise(asked.get("noise")) : null;
    worker.postMessage({ ...order, seed: Number(seed.value), noise });
  } catch (error) {
    fail(error.message);
  }
}

/** Read noise, float32, from a file beside the page: to compare with ddpm-sample. */
async function readNoise(name) {
  const response = await fetch(name);
  if (!response.ok) throw new Error(`there is no noise at ${name}`);
  return new Float32Array(await response.arrayBuffer());
}

function show({ step, of, pixels }) {
  const image = new ImageData(pixels, imageShape[1]);
  canvas.getContext("2d").putImageData(image, 0, 0);
  progress.max = of;
  progress.value = step;
}

stop.onclick = () => worker.postMessage("stop");

function finish(done) {
  const seconds = ((performance.now() - drawing.since) / 1000).toFixed(1);
  const wasFocused = document.activeElement === stop;
  fields.disabled = save.disabled = false;
  stop.disabled = true;
  if (wasFocused) find("another").focus();
  if (done) canvas.ariaLabel = `Drawn: ${drawing.words}`;
  say(done ? `Done in ${seconds} seconds: ${drawing.words}.` : `Stopped: ${drawing.words}.`);
}

save.onclick = () =>
  canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${drawing.words.replace(/[^\p{L}\p{N}]+/gu, "-")}.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
  });

function fail(reason) {
  fields.disabled = stop.disabled = true;
  status.classList.add("error");
  say(`The page cannot draw: ${reason}. Reload it, or use a recent Chrome, Edge, Firefox ` +
    "or Safari.");
}

function say(text) {
  status.textContent = text;
}

start();
