"""The classes of this package in files of Keras, found without loading Keras first.

Keras knows the classes of another package once they are imported. This package loads
its own at their first use; until then placeholders stand in for them, which Keras gets
as soon as somebody has imported it.
"""

import importlib
import importlib.abc
import importlib.util
import sys

PACKAGE = "ddpm_keras"
HOME = {
    "DiffusionModel": "model",
    "GaussianDiffusion": "diffusion",
    "TimeEmbedding": "networks.layers",
    "LabelEmbedding": "networks.layers",
    "SpaceToDepth": "networks.layers",
    "DepthToSpace": "networks.layers",
    "GroupNormalization": "networks.normalization",
    "AttentionBlock": "networks.layers",
    "ResidualBlock": "networks.layers",
    "UpsampledConv": "networks.upsampling",
    "Adam": "optimizers",
    "Muon": "optimizers",
    "Nadam": "optimizers",
    "SkipNonFinite": "optimizers",
    "WarmupDecay": "optimizers",
}


def register_when_keras_loads():
    """Register placeholders with Keras: now if it is loaded, else when it is."""
    if sys.modules.get("keras") is not None:
        _register()
    else:
        sys.meta_path.insert(0, _KerasFinder())


class _KerasFinder(importlib.abc.MetaPathFinder):
    """Finds Keras as usual, and registers the placeholders when it is loaded."""

    _searching = False

    def find_spec(self, name, path=None, target=None):
        if name != "keras" or self._searching:
            return None
        self._searching = True  # the others, which are asked next
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._searching = False
        if spec is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module):
                # Not before: to be found is not yet to be loaded.
                if self in sys.meta_path:
                    sys.meta_path.remove(self)
                execute(module)
                _register()

            spec.loader.exec_module = execute_and_register
        return spec


def _register():
    from keras.saving import get_custom_objects, register_keras_serializable

    for name, home in HOME.items():
        if f"{PACKAGE}>{name}" not in get_custom_objects():
            placeholder = type(name, (_Placeholder,), {"home": home})
            register_keras_serializable(PACKAGE, name)(placeholder)


class _Placeholder:
    """Loads the class of its name, which takes its place, when a file has one."""

    @classmethod
    def from_config(cls, config):
        module = importlib.import_module(f"{PACKAGE}.{cls.home}")
        return getattr(module, cls.__name__).from_config(config)

    def get_config(self):  # Keras asks for it, but there are no instances
        raise NotImplementedError
