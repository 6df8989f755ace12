"""The page in `web/`: its arithmetic in Node.js, and the whole in Chromium."""

import importlib.util
import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sample_command import pixels_of, sample

from ddpm_keras.backend import BACKEND
from ddpm_keras.data.pixels import to_uint8
from ddpm_keras.diffusion import GaussianDiffusion
from ddpm_keras.export import tabulate
from ddpm_keras.samplers import make_steps

WEB = Path(__file__).parents[1] / "web"

# The sampler's arithmetic, with a formula in place of the network.

PROGRAM = """
const web = await import(process.argv[1]);
const { table, noise, clip } = JSON.parse(process.argv[2]);
const predict = (x, t) => web.guide(x.map(() => t / 1000), x.map((v) => 0.3 * v), 2);
const draw = (number) => Float32Array.from(noise[number]);
const states = [];
for await (const { step, x, start } of web.sample(table, clip, predict, draw))
  states.push([...x, ...start]);
const pixels = [...web.toPixels(Float32Array.from([-2, -1, -0.5, 0, 0.5, 2]), 3)];
const grey = [...web.toPixels(Float32Array.from([-1, 1]), 1)];
const drawn = [0, 1, 1].map((seed) => [...web.normalNoise(seed, 20000)()]);
console.log(JSON.stringify({ states, pixels, grey, drawn }));
"""


@pytest.fixture(scope="module")
def diffusion():
    return GaussianDiffusion(prediction_type="v_prediction", schedule="cosine")


@pytest.fixture(scope="module")
def plan(diffusion):
    return make_steps(diffusion, "dpmpp", 5, eta=0.5)


@pytest.fixture(scope="module")
def noise():
    return np.random.default_rng(0).normal(size=(6, 12)).astype("float32")


@pytest.fixture(scope="module")
def in_node(diffusion, plan, noise):
    if not shutil.which("node"):
        pytest.skip("Node.js is not installed")
    given = {"table": tabulate(diffusion, plan), "noise": noise.tolist()}
    given["clip"] = [-1, 1]
    program = ["node", "--input-type=module", "-e", PROGRAM]
    arguments = [(WEB / "sampler.js").as_uri(), json.dumps(given)]
    output = subprocess.run([*program, *arguments], capture_output=True, check=True)
    return json.loads(output.stdout)


def test_page_takes_the_steps_of_the_sampler(in_node, diffusion, plan, noise):
    x, before = noise[0], 0.0
    assert len(in_node["states"]) == len(plan) and (plan.sigma[:-1] > 0).all()
    for i, state in enumerate(in_node["states"]):
        t = plan.timesteps[i]
        output = 2 * 0.3 * x - t / 1000
        start = np.asarray(diffusion.predict_start(output, x, [t])).clip(-1, 1).ravel()
        x = plan.a[i] * x + plan.b[i] * start + plan.c[i] * before
        x, before = x + plan.sigma[i] * noise[i + 1], start
        np.testing.assert_allclose(state, np.append(x, start), atol=1e-5)


def test_page_shows_the_bytes_that_are_saved(in_node):
    wanted = to_uint8([[-2, -1, -0.5], [0, 0.5, 2]])
    pixels = np.reshape(in_node["pixels"], (2, 4))
    assert np.array_equal(pixels[:, :3], wanted) and (pixels[:, 3] == 255).all()
    assert in_node["grey"] == [0, 0, 0, 255, 255, 255, 255, 255]


def test_page_draws_normal_noise_by_seed(in_node):
    zero, one, again = np.array(in_node["drawn"])
    assert np.array_equal(one, again)
    assert abs(np.corrcoef(zero, one)[0, 1]) < 0.03
    for draws in (zero, one):
        # Within four standard errors.
        assert abs(draws.mean()) < 0.03 and abs(draws.var() - 1) < 0.04
        assert abs((draws**3).mean()) < 0.11 and abs((draws**4).mean() - 3) < 0.28
        assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 0.03


def test_only_a_page_is_replaced_by_a_page(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(WEB)
    from assemble import build

    (tmp_path / "photo.jpg").touch()
    assert build("no_weights.safetensors", tmp_path) == 2
    assert "it is no page; name a new folder" in capsys.readouterr().err
    (tmp_path / "sampler.json").touch()
    assert build("no_weights.safetensors", tmp_path) == 2
    assert "no_weights" in capsys.readouterr().err
    assert (tmp_path / "photo.jpg").is_file()  # until the new page is complete


# In Chromium.

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))),
    None,
)
missing = [
    name
    for name, found in (
        ("Chromium", CHROMIUM),
        ("npm", shutil.which("npm")),
        ("playwright (pip install -e .[web])", importlib.util.find_spec("playwright")),
        ("TensorFlow as backend", BACKEND == "tensorflow"),
    )
    if not found
]


def in_chromium(test):
    reason = f"not here: {', '.join(missing)}"
    return pytest.mark.slow(pytest.mark.skipif(bool(missing), reason=reason)(test))


SEED = 3


@pytest.fixture(scope="module")
def web():
    """The programs `assemble` and `serve` of the page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(WEB)
        import assemble
        import serve

        yield assemble, serve


@pytest.fixture(scope="module")
def shipped():
    """The newest weights that ship."""
    return max(WEB.parent.glob("weights/*.safetensors"))


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, randomise):
    """Weights of a small network that knows classes."""
    from good_files import CONFIG

    from ddpm_keras.networks import build_network
    from ddpm_keras.weights import save_weights

    names = {"class_labels": True, "class_names": ["rose", "lily", "<b>aster</b>"]}
    config = CONFIG.model_copy(update=names | {"patch_size": 2})
    path = tmp_path_factory.mktemp("labelled") / "w.safetensors"
    save_weights(randomise(build_network(config)), path, config, "float16")
    return path


@pytest.fixture(scope="module")
def site(web, tmp_path_factory):
    """A function from weights to the folder and address of their page."""
    assemble, serve = web
    servers, sites = [], {}

    def make(weights):
        if weights not in sites:
            out = tmp_path_factory.mktemp("site") / "page"
            assert assemble.build(weights, out) == 0
            servers.append(serve.make_server(out))
            threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
            sites[weights] = out, f"http://127.0.0.1:{servers[-1].server_port}/"
        return sites[weights]

    yield make
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def browser():
    from playwright import sync_api

    flags = ["--no-sandbox", "--disable-background-networking", "--no-first-run"]
    with sync_api.sync_playwright() as playwright:
        with playwright.chromium.launch(
            executable_path=CHROMIUM, args=flags, timeout=60_000
        ) as browser:
            yield browser


@pytest.fixture
def page(browser):
    """A page that fails the test by an error in it."""
    page = browser.new_page()
    errors = []
    page.on("pageerror", lambda error: errors.append(error))
    yield page
    assert errors == []


def open_page(page, address):
    page.goto(address)
    page.wait_for_selector("#fields:not([disabled]), .error", timeout=60_000)
    return page.locator("#status").inner_text()


def wait_until_done(page):
    page.locator("#status", has_text=re.compile("Done|cannot")).wait_for(
        timeout=120_000
    )
    return page.locator("#status").inner_text()


def saved_picture(page, folder):
    with page.expect_download() as download:
        page.click("#save")
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path.name, np.asarray(Image.open(path).convert("RGB")).astype(int)


def write_noise(weights, path, steps):
    """Write all the noise of ddpm-sample for `SEED`: the start, then each step's."""
    from ddpm_keras.denoiser import Denoiser
    from ddpm_keras.sampling import ReverseProcess, _draw

    process = ReverseProcess(Denoiser.from_weights(weights))
    seeds = keras.ops.convert_to_tensor([SEED], "int32")
    draws = (_draw(seeds, k + 1, process.image_shape) for k in range(steps))
    noise = [process.noise([SEED]), *draws]
    path.write_bytes(np.float32(noise).tobytes())


@in_chromium
@pytest.mark.parametrize(
    "weights, steps, flags, address",
    [
        ("shipped", 20, "--labels 0 --guidance-scale 3", "&species=0&guidance=3"),
        ("labelled", 10, "--labels lily --guidance-scale 2", "&species=1&guidance=2"),
        ("labelled", 10, "--labels none", "&species=-1"),
    ],
)
def test_page_makes_the_image_of_ddpm_sample(
    site, page, tmp_path, request, weights, steps, flags, address
):
    path = request.getfixturevalue(weights)
    folder, url = site(path)
    write_noise(path, folder / "noise.bin", steps)
    said = open_page(page, f"{url}?noise=noise.bin&seed={SEED}&steps={steps}{address}")
    assert said.startswith("Ready. Pictures of ")
    page.click("#draw")
    seconds = float(re.search(r"Done in ([0-9.]+) seconds", wait_until_done(page))[1])
    print(f"{path.name}: {seconds} seconds, {said}")
    assert seconds < 10
    _, found = saved_picture(page, tmp_path)
    sample(
        f"--weights {path} --seeds {SEED} --sampler dpmpp --eta 1 --steps {steps} "
        f"{flags} --out {tmp_path / 'out'}"
    )
    (image,) = (tmp_path / "out").glob("*.png")
    assert np.abs(found - pixels_of(image)).max() <= 2


@in_chromium
def test_keyboard_names_and_words(site, page, labelled, tmp_path):
    _, url = site(labelled)
    open_page(page, url)
    # The names that a screen reader says.
    for role, name in (
        ("combobox", "Species"),
        ("slider", "Guidance"),
        ("combobox", "Steps"),
        ("spinbutton", "Seed"),
        ("button", "Draw"),
        ("progressbar", "Steps taken"),
    ):
        assert page.get_by_role(role, name=name, exact=True).is_visible(), name
    options = page.locator("#species option").all_inner_texts()
    assert options == ["<b>aster</b>", "lily", "rose", "any"]
    page.locator("#species").focus()
    page.keyboard.press("l")
    for key in ("Tab", "End", "Tab", "Tab"):
        page.keyboard.press(key)
    page.keyboard.type("7")  # in place of the 0, which the Tab has selected
    page.keyboard.press("Enter")
    assert wait_until_done(page).endswith("seconds: lily, seed 7.")
    assert page.locator("#strength").inner_text() == "5"
    assert page.get_by_role("img", name="Drawn: lily, seed 7").is_visible()
    assert saved_picture(page, tmp_path)[0] == "lily-seed-7.png"


@in_chromium
def test_stops_and_goes_on(site, page, shipped):
    open_page(page, f"{site(shipped)[1]}?seed=5&steps=50&species=-1")
    page.click("#draw")
    page.keyboard.press("Enter")  # on Stop, where the focus has gone
    page.locator("#status", has_text="Stopped: picture, seed 5.").wait_for()
    assert page.locator(":focus").inner_text() == "Another"
    page.locator("#steps").select_option("10")
    page.click("#another")
    assert wait_until_done(page).endswith("seconds: picture, seed 6.")


@in_chromium
def test_works_offline_after_the_first_visit(site, page, labelled):
    _, url = site(labelled)
    assert open_page(page, url).startswith("Ready.")
    page.context.set_offline(True)
    assert open_page(page, f"{url}?seed=5").startswith("Ready.")
    page.click("#draw")
    assert "seed 5" in wait_until_done(page)


@in_chromium
def test_fits_a_phone(site, page, labelled):
    page.set_viewport_size({"width": 320, "height": 640})
    open_page(page, site(labelled)[1])
    assert page.evaluate("document.documentElement.scrollWidth") == 320
    for button in page.locator("button").all():
        assert button.bounding_box()["height"] >= 44  # a finger's width


@in_chromium
def test_says_what_is_missing(site, browser, labelled):
    _, url = site(labelled)
    page = browser.new_page(service_workers="block")  # which asks past `route`
    page.route("**/network.onnx", lambda route: route.fulfill(status=404))
    said = open_page(page, url)
    assert said.startswith("The page cannot draw: network.onnx is missing (404).")


@in_chromium
def test_says_that_a_browser_is_too_old(site, page, labelled):
    page.add_init_script("delete globalThis.WebAssembly")
    said = open_page(page, site(labelled)[1])
    assert said.startswith("The page cannot draw: it has no WebAssembly.")
