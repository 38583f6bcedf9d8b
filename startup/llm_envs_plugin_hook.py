"""Registers the tasks of llm_envs when Gymnasium is imported, whoever imports it.

`llm_envs_plugin_hook.pth`, installed beside this module, makes every start of the interpreter import it. So it stands
alone, imports nothing but sys, and only puts a finder in front of `sys.meta_path`. `LLM_ENVS_PLUGIN=0` turns it off.
"""

import sys

TYPE_CHECKING = False  # typing's own would have to be imported, and so would __future__
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any


class GymnasiumFinder:
    """Finds Gymnasium as the finders behind it do, with a loader that registers our tasks."""

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        """The spec of Gymnasium; None for every other module, which leaves it to the other finders."""
        if name != "gymnasium" or self not in sys.meta_path:
            return None
        import os

        if os.environ.get("LLM_ENVS_PLUGIN") == "0":
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            find = getattr(finder, "find_spec", None)
            spec = find and find(name, path, target)
            if spec is not None:
                if hasattr(spec.loader, "exec_module"):
                    spec.loader = RegisteringLoader(spec.loader, self)
                return spec
        return None


class RegisteringLoader:
    """The given loader, which may be shared with other modules; after it ran the module, our tasks are registered.

    Args:
        loader: What loads Gymnasium.
        finder: Taken off `sys.meta_path` when Gymnasium is loaded, and not when it is only looked for.
    """

    def __init__(self, loader: "Loader", finder: GymnasiumFinder) -> None:
        self._loader = loader
        self._finder = finder

    def __getattr__(self, name: str) -> "Any":
        return getattr(self._loader, name)

    def exec_module(self, module: "ModuleType") -> None:
        """Run the module, then register our tasks; if that fails, warn."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            sys.meta_path.remove(self._finder)
        if "llm_envs" in sys.modules:
            return  # it is what imports Gymnasium, and it registers its tasks itself
        try:
            from llm_envs.plugin import register_builtin_tasks

            register_builtin_tasks()
        except Exception as error:  # noqa: BLE001  (whatever is wrong with us, Gymnasium must still import)
            import warnings

            text = f"the tasks of llm_envs are not registered: {type(error).__name__}: {error}"
            warnings.warn(text, RuntimeWarning, stacklevel=2)


if "gymnasium" not in sys.modules:
    sys.meta_path.insert(0, GymnasiumFinder())
