// Runs the network beside the page, which stays responsive. Messages from the page:
//   {label, scale, steps, seed, noise}  draw a picture; noise is an array, or null
//   "stop"                              stop drawing
// Messages to it: {ready}, {step, of, pixels}, {done}, {stopped}, {error}.

import { guide, normalNoise, sample, toPixels } from "./sampler.js";

const NO_LABEL = -1;
let about, size, session, ort, stopped;

async function start() {
  about = await (await fetched("sampler.json")).json();
  size = about.image_shape.reduce((product, side) => product * side);
  const network = new Uint8Array(await (await fetched("network.onnx")).arrayBuffer());
  let device = "webgpu";
  try {
    if (!(await navigator.gpu?.requestAdapter())) throw new Error("no graphics processor");
    await load(device, network);
  } catch {
    device = "wasm";
    await load(device, network);
  }
  postMessage({ ready: { about, device, threads: ort.env.wasm.numThreads } });
}

async function load(device, network) {
  ort = await import(`./vendor/ort.${device}.bundle.min.mjs`);
  // Threads share memory, which browsers allow on isolated pages alone.
  const cores = navigator.hardwareConcurrency || 1;
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(cores, 4) : 1;
  session = await ort.InferenceSession.create(network, { executionProviders: [device] });
  // Some graphics processors fail at the first call alone.
  await run(new Float32Array(size), 0, [NO_LABEL]);
}

async function fetched(name) {
  const response = await fetch(new URL(name, self.location));
  if (!response.ok) throw new Error(`${name} is missing (${response.status})`);
  return response;
}

/** Return the network's output for each label, from one call. */
async function run(x, t, labels) {
  const [height, width, channels] = about.image_shape;
  const batch = new Float32Array(labels.length * x.length);
  labels.forEach((_, k) => batch.set(x, k * x.length));
  const inputs = {
    image_input: new ort.Tensor(batch, [labels.length, height, width, channels]),
    time_input: new ort.Tensor(Int32Array.from(labels, () => t), [labels.length]),
    label_input: new ort.Tensor(Int32Array.from(labels), [labels.length]),
  };
  if (!("label_input" in about.inputs)) delete inputs.label_input;
  const { output } = await session.run(inputs);
  return labels.map((_, k) => output.data.subarray(k * x.length, (k + 1) * x.length));
}

async function draw({ label, scale, steps, seed, noise }) {
  const channels = about.image_shape[2];
  const table = about.tables.find(({ timesteps }) => timesteps.length === steps);
  const draws = noise
    ? (i) => noise.subarray(i * size, (i + 1) * size)
    : normalNoise(seed, size);
  const guided = label !== NO_LABEL && scale !== 1;
  const predict = async (x, t) => {
    const outputs = await run(x, t, guided ? [NO_LABEL, label] : [label]);
    return guided ? guide(...outputs, scale) : outputs[0];
  };
  stopped = false;
  for await (const { step, x, start } of sample(table, about.clip, predict, draws)) {
    const pixels = toPixels(step === steps ? x : start, channels);
    postMessage({ step, of: steps, pixels });
    await new Promise((resolve) => setTimeout(resolve)); // let "stop" arrive
    if (stopped) return postMessage({ stopped: true });
  }
  postMessage({ done: true });
}

const ready = start();
ready.catch(report);

self.onmessage = ({ data }) => {
  if (data === "stop") stopped = true;
  else ready.then(() => draw(data)).catch(report);
};

function report(error) {
  postMessage({ error: String(error?.message ?? error) });
}
