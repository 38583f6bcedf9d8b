"""The tokenizer of `builtin/tiny`: byte-level BPE over a few hundred words, digits and punctuation apart."""

from __future__ import annotations

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, END = "<|pad|>", "<|end|>"
ROLES = ("system", "user", "assistant")
SPECIAL_TOKENS = (PAD, END, *(f"<|{role}|>" for role in ROLES))
VOCABULARY_SIZE = 512
CONTEXT_LENGTH = 512

CHAT_TEMPLATE = """\
{%- for message in messages -%}
{%- if message.role not in ["system", "user", "assistant"] -%}
{{- raise_exception("the roles are system, user and assistant, got " ~ message.role) -}}
{%- endif -%}
{{- "<|" ~ message.role ~ "|>" -}}
{%- if message.role == "assistant" -%}
{%- generation -%}{{- message.content ~ "<|end|>" -}}{%- endgeneration -%}
{%- else -%}
{{- message.content ~ "<|end|>" -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- "<|assistant|>" -}}{%- endif -%}
"""

# What prompts and completions look like, counted many times so that their words are merged first; then other words
# worth a token. Anything else is spelled in smaller pieces, down to bytes.
_OFTEN = r"""
What is 2 + 2 * 6? End with \boxed{answer}. End with #### and the answer. Calculate the value of the expression.
Write f(x): add 3, then multiply by 4, then subtract 5, then divide by 6.
Write a function solve(x) that returns the result.
def f(x): return (x+3)*4
"""
_WORDS = """
the of and to in that it was for on are as with they be at one have this from or had by but not what all were we when
your can said there use an each which she do how their if will up other about out many then them these so some her would
make like him into time has look two more write go see number no way could people my than first been call who its now
find long down day did get come made may part True False None import print while else elif range len list str int float
lambda yield try except raise class self assert pass break continue sum min max abs sorted step answer solution equals
Python even odd square negative positive total value result number numbers function input output string example
"""


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer, built from this file alone: the same every time.

    Every string that UTF-8 can encode becomes tokens and comes back exactly: all 256 bytes are in the vocabulary.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Punctuation(behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=[AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_OFTEN] * 100 + [_WORDS], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[f"<|{role}|>" for role in ROLES],
        chat_template=CHAT_TEMPLATE,
        model_max_length=CONTEXT_LENGTH,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
