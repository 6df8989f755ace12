// The reverse process, step by step, from a table of `ddpm-export`. In step i, with
// the network's output for the noisy image x_t at timesteps[i],
//
//   x_0    = from_x_t x_t + from_output output, clipped
//   x_prev = a x_t + b x_0 + c x_0_before + sigma z
//
// where x_0_before is the x_0 of the step before, and z is standard normal noise.

/**
 * Take the steps of a sampler, one at a time.
 *
 * @param {object} table - Columns of numbers, one for each step.
 * @param {number[]} clip - The smallest and the largest value of an image.
 * @param {function} predict - Returns (a promise of) the output for `(x_t, t)`.
 * @param {function} noise - Returns noise as a Float32Array: for 0 the noise to start
 *   from, and for i + 1 that of step i.
 * @yields {{step: number, x: Float32Array, start: Float32Array}} How many steps are
 *   done, x_prev and x_0. After the last step x_prev is the sample.
 */
export async function* sample(table, clip, predict, noise) {
  let x = noise(0);
  let before = new Float32Array(x.length);
  for (let i = 0; i < table.timesteps.length; i++) {
    const output = await predict(x, table.timesteps[i]);
    const start = x.map((value, k) => {
      const clean = table.from_x_t[i] * value + table.from_output[i] * output[k];
      return Math.min(Math.max(clean, clip[0]), clip[1]);
    });
    const last = before;
    x = x.map((value, k) => table.a[i] * value + table.b[i] * start[k] + table.c[i] * last[k]);
    if (table.sigma[i] > 0) {
      const z = noise(i + 1);
      x = x.map((value, k) => value + table.sigma[i] * z[k]);
    }
    before = start;
    yield { step: i + 1, x, start };
  }
}

/** Mix outputs without and with a label: classifier-free guidance of a scale. */
export function guide(without, withLabel, scale) {
  return without.map((value, k) => value + scale * (withLabel[k] - value));
}

/** Turn an image with values in [-1, 1] into the bytes of a canvas. */
export function toPixels(image, channels) {
  const pixels = new Uint8ClampedArray((image.length / channels) * 4).fill(255);
  for (let k = 0; k < pixels.length; k++)
    if (k % 4 < 3)  // red, green, blue; the fourth is opacity
      pixels[k] = (image[channels * (k >> 2) + (k % 4) % channels] + 1) * 127.5;
  return pixels;
}

/** Return a function that draws `length` standard normal numbers, fixed by a seed. */
export function normalNoise(seed, length) {
  // Marsaglia 2003, "Xorshift RNGs". Its state must not be 0, and its first numbers
  // are alike for neighbouring seeds.
  let state = Math.imul(seed + 1, 0x9e3779b1) || 1;
  const uniform = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;  // above 0 and below 1
  };
  for (let i = 0; i < 16; i++) uniform();
  // Box and Muller 1958.
  const normal = () =>
    Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  return () => Float32Array.from({ length }, normal);
}
