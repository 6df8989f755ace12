"""docs/from_the_example.md: what it says runs, in few changed lines."""

import re
from pathlib import Path

import keras
import numpy as np

import ddpm_keras

PAGE = Path(__file__).parents[1] / "docs" / "from_the_example.md"
TEXT = PAGE.read_text(encoding="utf-8")
# The example's names, set as its first cells set them, but for a tiny network.
HYPERPARAMETERS = {
    "img_size": 8,
    "img_channels": 3,
    "first_conv_channels": 8,
    "channel_multiplier": [1],
    "has_attention": [False],
    "num_res_blocks": 1,
    "norm_groups": 8,
    "total_timesteps": 1000,
    "learning_rate": 2e-4,
    "num_epochs": 1,
}


def test_lines_of_the_page_run(monkeypatch):
    rows = re.findall(r"^\| (\d+) \| .* \| (.*) \|$", TEXT, re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, len(rows) + 1))
    assert len(rows) <= 10
    code = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1]
    for _, line in rows[1:]:
        for part in re.findall(r"`(.*?)`", line):
            for argument in part.replace("PREFIX", "").rstrip(",)").split(", "):
                assert argument in code
    names = {"keras": keras, "train_ds": [], **HYPERPARAMETERS}
    exec(rows[0][1].strip("`"), names)
    called = []
    # Their tests are elsewhere; here, that they take these arguments.
    monkeypatch.setattr(keras.Model, "fit", lambda model, *a, **b: called.append(b))
    monkeypatch.setattr(
        ddpm_keras.DiffusionModel,
        "generate_images",
        lambda model, count, **options: np.zeros((count, 8, 8, 3)),
    )
    names["load_weights"] = lambda network, path: called.append(network)
    exec(code, names)
    model = names["model"]
    assert called[1] is model.ema_network and model.diffusion.timesteps == 1000
    keras.callbacks.LambdaCallback(**{"on_epoch_end": model.plot_images})
    assert called[0]["epochs"] == 1 and len(called[0]["callbacks"]) == 1
