"""The model card of `builtin/tiny`, written by its recipe."""

from __future__ import annotations

CARD = """\
---
license: mit
library_name: transformers
pipeline_tag: text-generation
---

# builtin/tiny

A `LlamaForCausalLM` of {parameters:,} parameters that writes worked arithmetic and one-line Python functions: small
enough that reinforcement learning on it takes minutes on one core of a CPU. It is the default policy of the examples
and tests. It is good for nothing else.

## What it is, and what an improvement on it shows

The warm start knows most of the arithmetic, and reinforcement learning selects the right habit. The model was trained
on true facts (`7*8=56`) and on demonstrations of which most are wrong on purpose: they work from right to left, drop
brackets, drop the sign of a negative result, slip in a step, or forget to mark the answer. Sampled, it shows all of
these habits and the right one. A policy-gradient run that takes it above 90 % has sharpened what was there; it has
not taught the model arithmetic.

```
What is 12 / (2 + 4)? End with \\boxed{{answer}}.     12/(2+4)=12/6=2. \\boxed{{2}}       right
                                                   12/2+4=6+4=10. \\boxed{{10}}     brackets dropped
Write f(x): add 3, then multiply by 4.             def f(x): return (x+3)*4        right
                                                   def f(x): return x+3*4          brackets dropped
```

## How it was made

    python -m tools.tiny_model {arguments} --out tiny

In the repository, `tools/tiny_model/corpus.py` is the training data and `recipe.py` the training: {steps:,}
steps of {batch_size} rows, from random weights. No other data or model was involved. On one thread, the same
seed gives the same weights on the same machine with the same version of torch (here {torch_version}).
Demonstrations are of problems of the task's training split only. Facts are single steps of such problems, or
operations on two numbers of any split: the task with `operands=2` is therefore not held out from this model.

## Measured

`llm_envs/Arithmetic-v0` at its default difficulty, split `test`, {problems} distinct problems, {samples} samples of
each at temperature 1; in brackets 95 % intervals over problems.

| | |
|---|---|
| sampled pass@1 | {sampled} % |
| greedy | {greedy} % |
| pass@{samples} | {best_of} % |
| problems whose {samples} samples are neither all right nor all wrong | {informative:.1%} |
| outcomes of the samples | {outcomes} |

## Licence

MIT, as the package it comes with.
"""
