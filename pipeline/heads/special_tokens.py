"""The six special tokens of the byte tokenizer, and checks that a checkpoint's files describe no others.

transformers 4 and 5 read special tokens from up to four files. Each is honoured if it describes these tokens, and
refused with its name if it changes or adds one: the model has no embedding for it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.checkpoints import parse_json, read_json

SPECIAL = ("[PAD]", "[BOS]", "[EOS]", "[MASK]", "[CLS]", "[SEP]")
"""The special tokens, by id."""

_NAMES = ("pad_token", "bos_token", "eos_token", "mask_token", "cls_token", "sep_token")
_LISTS = ("additional_special_tokens", "extra_special_tokens", "model_specific_special_tokens")
_CLASSES = ("PerceiverTokenizer", "PerceiverTokenizerFast")


def check_tokenizer_config(config: Mapping[str, Any]) -> None:
    """Raise ValueError if a tokenizer_config.json is that of another tokenizer, or has other special tokens."""
    check_tokenizer_class(config)
    if config.get("split_special_tokens"):
        raise ValueError("split_special_tokens (true) must be false: special tokens in a text are read as such")
    if positional := config.get("init_inputs"):
        raise ValueError(f"init_inputs ({positional!r}) must be empty: name the special tokens instead")
    check_named_tokens(config)
    added = config.get("added_tokens_decoder") or {}
    if unknown := sorted(set(added) - {str(token) for token in range(len(SPECIAL))}):
        raise ValueError(
            f"added_tokens_decoder has the ids {unknown}, but only 0 to {len(SPECIAL) - 1} are special tokens"
        )
    for token, value in added.items():
        _check_token(f"added_tokens_decoder[{token}]", SPECIAL[int(token)], value)


def check_tokenizer_class(config: Mapping[str, Any]) -> None:
    """Raise ValueError if a config names another tokenizer than the one of bytes."""
    if (name := config.get("tokenizer_class")) not in (None, *_CLASSES):
        raise ValueError(f"tokenizer_class ({name!r}) must be {_CLASSES[0]!r}: the model reads bytes")


def check_token_files(folder: Path) -> None:
    """Check special_tokens_map.json, added_tokens.json and tokenizer.json in a checkpoint's local folder.

    As in transformers they have no effect if tokenizer_config.json has an `added_tokens_decoder`. Raise
    CheckpointError, with the file's name, for special tokens other than `SPECIAL`.
    """
    if "added_tokens_decoder" in read_json(folder, "tokenizer_config.json", default={}):
        return
    parse_json(folder, "special_tokens_map.json", check_named_tokens, default={})
    parse_json(folder, "added_tokens.json", _check_added_tokens, default={})
    parse_json(folder, "tokenizer.json", _check_serialized_tokens, default={})


def check_named_tokens(config: Mapping[str, Any]) -> None:
    """Raise ValueError if a config renames one of the `SPECIAL` tokens or adds another."""
    for token, name in zip(SPECIAL, _NAMES, strict=True):
        _check_token(name, token, config.get(name))
    lists = [config.get(name) or () for name in _LISTS]
    listed = [value for each in lists for value in (each.values() if isinstance(each, Mapping) else each)]
    named = [value for name, value in config.items() if name.endswith("_token") and name not in _NAMES]
    others = [value for value in named if isinstance(value, str | Mapping)]
    if unknown := sorted({_content(value) for value in (*listed, *others)} - set(SPECIAL)):
        raise ValueError(f"the special tokens {unknown} are not supported: the model knows only {', '.join(SPECIAL)}")


def _check_added_tokens(config: Mapping[str, Any]) -> None:
    """Raise ValueError if {token: id} has another token, or another id, than `SPECIAL`."""
    for token, number in config.items():
        if token not in SPECIAL or SPECIAL.index(token) != number:
            raise ValueError(f"token {token!r} with the id {number} is not supported: the model knows only {_known()}")


def _check_serialized_tokens(config: Mapping[str, Any]) -> None:
    """Raise ValueError if the `added_tokens` of a tokenizer.json are not in `SPECIAL`."""
    _check_added_tokens({_content(each): each.get("id") for each in config.get("added_tokens") or ()})


def _known() -> str:
    return ", ".join(f"{token} ({number})" for number, token in enumerate(SPECIAL))


def _check_token(name: str, token: str, value: Any) -> None:
    if value is None or value == token:
        return
    flags = ("lstrip", "rstrip", "single_word")
    if not isinstance(value, Mapping) or value.get("content") != token or any(value.get(flag) for flag in flags):
        raise ValueError(f"{name} ({value!r}) must be {token!r} and must not match white space around it")


def _content(value: Any) -> str:
    return str(value.get("content")) if isinstance(value, Mapping) else str(value)
