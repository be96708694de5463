"""Read what fairseq-train wrote to its log: settings, statistics, languages and size of the model."""

import ast
import json
import re
from pathlib import Path

RECORD = re.compile(r"\| INFO \| (train_inner|train|valid) \| (\{.*\})$", re.MULTILINE)
SETTINGS = re.compile(r"\| INFO \| fairseq_cli\.train \| (\{'_name': None, .*\})$", re.MULTILINE)
PARAMETERS = re.compile(r"num\. shared model params: ([\d,]+)")
LANGUAGE = re.compile(r"\| \[(.+?)\] dictionary: \d+ types")
# Settings that do not change the result of a training; decoder_*_dim follow from the model's width. The list in
# scripts/record.py also has the precision, which may change when a run resumes, but not between seeds of a system.
INCIDENTAL = re.compile(
    r"save_dir|user_dir|log_.*|restore_file|seed|tensorboard_logdir|wandb_.*|no_progress_bar|num_workers|"
    r"keep_.*|no_save.*|(max_tokens|batch_size)_valid|"
    r"cpu|device_id|nprocs_per_node|distributed_.*|ddp_.*|kd_chunk_tokens|decoder_input_dim|decoder_output_dim"
)


def settings_in(log: str) -> dict[str, object] | None:
    """Return the settings of the last training in the log, by flag name, with fairseq's groups merged, or None."""
    found = SETTINGS.findall(log)
    if not found:
        return None
    groups = _literal(found[-1])
    settings = {
        name: value
        for group in groups.values()
        if isinstance(group, dict)
        for name, value in group.items()
        if name != "_name"
    }
    for group in ("model", "criterion", "optimizer", "lr_scheduler"):
        if isinstance(groups.get(group), dict):
            settings[group] = groups[group]["_name"]
    return settings


def without_incidental(settings: dict[str, object]) -> dict[str, object]:
    """Return the settings that change the result of a training, except the seed.

    Only the folder's name is kept of `data`. `max_tokens` and `update_freq` are replaced by `tokens_per_update`, which
    does not depend on the number of workers.
    """
    kept = {name: value for name, value in settings.items() if not INCIDENTAL.fullmatch(name)}
    if "data" in kept:
        kept["data"] = Path(str(kept["data"])).name
    tokens, batches, workers = (settings.get(name) for name in ("max_tokens", "update_freq", "distributed_world_size"))
    if isinstance(tokens, int) and isinstance(batches, list) and isinstance(workers, int):
        kept["tokens_per_update"] = [tokens * workers * number for number in batches]
        del kept["max_tokens"], kept["update_freq"]
    return kept


def records_in(log: str) -> dict[str, dict[int, dict]]:
    """Return the log's statistics by kind (train_inner, train, valid) and number of updates.

    Those that were logged again after a restart replace the first ones.
    """
    records: dict[str, dict[int, dict]] = {"train_inner": {}, "train": {}, "valid": {}}
    for kind, text in RECORD.findall(log):
        prefix = "" if kind == "train_inner" else f"{kind}_"
        record = {name.removeprefix(prefix): value for name, value in json.loads(text).items()}
        records[kind][int(record["num_updates"])] = record
    return {kind: dict(sorted(found.items())) for kind, found in records.items()}


def parameters_in(log: str) -> int | None:
    """Return the number of parameters of the model, or None if the log does not say."""
    found = PARAMETERS.search(log)
    return int(found[1].replace(",", "")) if found else None


def languages_in(log: str) -> tuple[str, str] | None:
    """Return the source and target language, as given to fairseq or inferred by it, or None if the log does not say."""
    found = LANGUAGE.findall(log)
    return (found[0], found[1]) if len(found) > 1 else None


class _NamespacesAsDicts(ast.NodeTransformer):
    """Turn `Namespace(a=1)`, which fairseq prints among its settings, into `{'a': 1}`."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        return ast.Dict([ast.Constant(keyword.arg) for keyword in node.keywords], [k.value for k in node.keywords])


def _literal(text: str) -> dict:
    return ast.literal_eval(_NamespacesAsDicts().visit(ast.parse(text, mode="eval")))
