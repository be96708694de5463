"""Record the settings and files that a result was made from, and find what has changed since.

    python scripts/record.py write RECORD NAME=VALUE... NAME@FILE... [-- FLAG...]
    python scripts/record.py compare RECORD NAME=VALUE... NAME@FILE... [-- FLAG...]
    python scripts/record.py compare-log RUN_DIR NAME=VALUE... NAME@FILE... [-- FLAG...]

write stores values, checksums of files and fairseq's flags in the JSON file RECORD. compare prints what differs from
the record in one line and exits with 3, or prints nothing. compare-log does the same for a run of an earlier version,
which has only its log.

Several files can have the same NAME; only their contents are compared, not their file names, and nothing is compared
if all of them are missing. Flags that do not change the result, such as the device and the number of workers, are
left out, and paths are compared without their folders, so that a run can be moved to another folder or machine.
"""

import json
import os
import re
import sys
from pathlib import Path

from inputs import DIFFERENT, checksum

LISTED = 4  # differences that are printed
# Flags that say where and how fast to run, what to log, or what to keep; nmt_kd/evaluation/training_log.py has the same
# list, without the precision.
INCIDENTAL = re.compile(
    r"--(cpu|(memory-efficient-)?(fp16|bf16)|amp|fp16-no-flatten-grads|tpu|device-id|nprocs-per-node|num-workers|"
    r"distributed-.*|ddp-.*|save-dir|user-dir|log-.*|tensorboard-logdir|wandb-.*|no-progress-bar|keep-.*|no-save.*|"
    r"kd-chunk-tokens|distill-backend|num-shards|shard-id)"
)
# Flags that name files, which are recorded by content.
TEACHERS = {"--teacher-path", "--teacher-cache"}
INITIAL_MODELS = {"--finetune-from-model", "--restore-file"}
FLAG = re.compile(r"-{1,2}[A-Za-z]")


def flags_of(words: list[str]) -> dict[str, str]:
    """Return the value of each flag, the last one of several; all words between two flags form a value."""
    flags: dict[str, list[str]] = {}
    values: list[str] = []
    for word in words:
        if FLAG.match(word):
            name, equals, value = word.partition("=")
            values = flags[name] = [value] if equals else []
        else:
            values.append(word)
    return {name: " ".join(of_flag) for name, of_flag in flags.items()}


def teacher_files(flags: dict[str, str]) -> list[Path]:
    """Return the checkpoints of the teacher, or the manifest of its cache, which has the teacher's checksum."""
    if cache := flags.get("--teacher-cache"):
        return [Path(cache) / "manifest.json"]
    return [Path(path) for path in flags.get("--teacher-path", "").split(":") if path]


def parse_parts(arguments: list[str]) -> tuple[dict[str, str], dict[str, list[Path]], dict[str, str]]:
    """Return the values, the files and the flags that the arguments name."""
    words, flags = arguments, {}
    if "--" in arguments:
        place = arguments.index("--")
        words, flags = arguments[:place], flags_of(arguments[place + 1 :])
    values: dict[str, str] = {}
    files: dict[str, list[Path]] = {}
    for word in words:
        name, separator, value = re.fullmatch(r"([^=@]+)([=@])(.*)", word, re.DOTALL).groups()
        if separator == "=":
            values[name] = value
        else:
            files.setdefault(name, []).append(Path(value))
    if teachers := teacher_files(flags):
        files["teacher"] = teachers
    if initial := [Path(flags[name]) for name in sorted(INITIAL_MODELS & set(flags))]:
        files["initial model"] = initial
    by_content = TEACHERS | INITIAL_MODELS
    kept = {name: value for name, value in flags.items() if not INCIDENTAL.fullmatch(name) and name not in by_content}
    return values, files, {name: os.path.basename(v) if re.match(r"\S*/", v) else v for name, v in kept.items()}


def checksums(paths: list[Path], known: dict[str, list]) -> dict[str, list]:
    """Return size, time and SHA-256 of the files by name; a file of a `known` size and time is not read again."""
    found = {}
    for path in paths:
        if path.is_file():
            status = path.stat()
            size_and_time = [status.st_size, status.st_mtime_ns]
            earlier = known.get(path.name, [])
            digest = earlier[2] if earlier[:2] == size_and_time else checksum(path)
            found[path.name if path.name not in found else str(path)] = [*size_and_time, digest]
    return found


def make_record(arguments: list[str]) -> dict:
    """Return the record of the values, files and flags in the arguments."""
    values, files, flags = parse_parts(arguments)
    return {"values": values, "files": {name: checksums(files[name], {}) for name in files}, "flags": flags}


def first_unmatched(files: dict[str, list], others: dict[str, list]) -> str:
    """Return the name and checksum of the first file whose content is not among the others, or "none"."""
    theirs = {digest for *_, digest in others.values()}
    for name, (*_, digest) in files.items():
        if digest not in theirs:
            return f"{name} (SHA-256 {digest[:8]}...)"
    return "none"


def differences(record: dict, arguments: list[str]) -> list[str]:
    """Return the differences between a record and the arguments, as 'NAME: OLD -> NEW'."""
    values, files, flags = parse_parts(arguments)
    found = [
        f"{name}: {record['values'].get(name) or 'none'} -> {values.get(name) or 'none'}"
        for name in dict.fromkeys([*record["values"], *values])
        if record["values"].get(name, "") != values.get(name, "")
    ]
    for name in dict.fromkeys([*record["files"], *files]):
        earlier = record["files"].get(name, {})
        now = checksums(files.get(name, []), earlier)
        if name in files and not now:
            continue  # the files were deleted, which does not invalidate the result
        if sorted(digest for *_, digest in earlier.values()) != sorted(digest for *_, digest in now.values()):
            found.append(f"{name}: {first_unmatched(earlier, now)} -> {first_unmatched(now, earlier)}")
    return found + different_flags(record["flags"], flags)


def different_flags(earlier: dict[str, str], now: dict[str, str]) -> list[str]:
    """Return the flags that differ, as '--FLAG: OLD -> NEW'."""

    def shown(flags: dict[str, str], name: str) -> str:
        return (flags[name] or "set") if name in flags else "not set"

    return [
        f"{name}: {shown(earlier, name)} -> {shown(now, name)}"
        for name in dict.fromkeys([*earlier, *now])
        if earlier.get(name) != now.get(name)
    ]


def differences_from_log(folder: Path, arguments: list[str]) -> list[str]:
    """Return the given flags whose values differ from the settings in a run's log, as '--FLAG: OLD -> NEW'."""
    from nmt_kd.errors import UserError
    from nmt_kd.evaluation.runs import Run

    flags = parse_parts(arguments)[2]
    try:
        logged = Run(folder).settings
    except UserError:  # the run failed before it logged its settings
        return []
    found = []
    for flag, value in flags.items():
        name = flag.removeprefix("--").replace("-", "_")
        if name in logged and not same_value(value, logged[name]):
            found.append(f"{flag}: {logged[name]} -> {value or 'set'}")
    return found


def same_value(flag: str, logged: object) -> bool:
    """Return whether a flag has the logged value, which may have another type: a learning rate is logged as a list."""
    if isinstance(logged, list) and len(logged) == 1:
        logged = logged[0]
    if isinstance(logged, bool):
        return logged is (flag in ("", "True", "true"))
    try:
        return float(flag) == float(str(logged))
    except ValueError:
        return flag.split() == str(logged).split() or os.path.basename(str(logged)) == flag


def main(arguments: list[str]) -> None:
    command, path, *parts = arguments
    record = Path(path)
    if command == "write":
        record.parent.mkdir(parents=True, exist_ok=True)
        partial = record.with_name(f"{record.name}.{os.getpid()}.partial")  # other machines may write it as well
        partial.write_text(json.dumps(make_record(parts), indent=1) + "\n", encoding="utf-8")
        partial.rename(record)
        return
    if command == "compare-log":
        found = differences_from_log(record, parts)
    else:
        found = differences(json.loads(record.read_text(encoding="utf-8")), parts)
    if found:
        more = [f"and {len(found) - LISTED} more"] if len(found) > LISTED else []
        print("; ".join([*found[:LISTED], *more]))
        sys.exit(DIFFERENT)


if __name__ == "__main__":
    main(sys.argv[1:])
