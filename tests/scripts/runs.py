"""A prepared data set and programs that take no time in place of fairseq's and nmt-kd, to test the scripts' logic."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from conftest import ROOT, run_command

PROGRAMS = {
    # Fails, as fairseq's parser would, for --max-update x, and without a checkpoint for --max-update 0.
    "fairseq-train": """
for word; do
    case $last in --save-dir) folder=$word ;; --max-update) updates=$word ;; esac
    last=$word
done
echo "$*" >>"$CALLS"
[ "$updates" != x ] || { echo "fairseq-train: error: argument --max-update: invalid int value: 'x'" >&2; exit 2; }
[ "$updates" != 0 ] || exit 1
echo "$*" >"$folder/checkpoint_last.pt"
cp "$folder/checkpoint_last.pt" "$folder/checkpoint_best.pt"
[ -z "$KILLED" ] || kill -9 $$
""",
    "fairseq-generate": """
echo "$*" >>"$CALLS"
for word; do [ "$last" != --distill-dir ] || folder=$word; last=$word; done
if [ -n "$folder" ]; then
    mkdir -p "$folder/shards" && echo {} >"$folder/manifest.json"
    [ -z "$FAIL" ] || exit 1
    [ -e "$folder/shards/0000000.jsonl" ] || echo "$*" >"$folder/shards/0000000.jsonl"
else
    printf 'S-0\\ta\\nT-0\\tb\\nH-0\\t-0.5\\tb\\nD-0\\t-0.5\\tb\\n'
fi
""",
    "fairseq-interactive": """sed "s/.*/D-0\\t-0.5\\ttranslation of &/" """,
    "nmt-kd": """
echo "nmt-kd $*" >>"$CALLS"
command=$1
for word; do [ "$last" != --output ] || folder=$word; last=$word; done
case $command in
agreement) echo '{"teacher_agreement": 50.0}' ;;
average) echo average >"$folder" ;;
decode | import) mkdir -p "$folder/shards" && echo {} >"$folder/manifest.json" && echo "$*" >"$folder/shards/0.jsonl" ;;
cache | datastore | neighbours)
    [ -z "$FAIL" ] || { echo "no memory"; exit 1; }
    mkdir -p "$3" && echo {} >"$3/manifest.json"
    ;;
assemble) mkdir -p "$folder" && cat "${2%=*}/shards/"* >"$folder/train.en-de.de.bin" ;;
esac
""",
}


@dataclass(frozen=True)
class Workplace:
    """A folder for runs, and the programs."""

    folder: Path
    programs: Path

    @property
    def work(self) -> Path:
        """The folder of the data set."""
        return self.folder / "multi30k"

    @property
    def calls(self) -> list[str]:
        """The arguments of all programs that were called, one call a line."""
        log = self.programs / "calls"
        return log.read_text(encoding="utf-8").splitlines() if log.exists() else []

    def script(self, name: str, *arguments, **environment):
        """Run a script on the data set."""
        stdin = {"input": environment.pop("stdin")} if "stdin" in environment else {}
        variables = {"NMT_KD_RUNS": str(self.folder), "NMT_KD_DEVICE": "cpu", "CALLS": str(self.programs / "calls")}
        variables |= {"VIRTUAL_ENV": str(self.programs)}  # or .venv would come first
        variables |= {"PATH": f"{self.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"}
        script = ROOT / f"scripts/{name}.sh"
        return run_command("bash", script, *arguments, environment={**variables, **environment}, **stdin)

    def add(self, program: str, content: str) -> None:
        """Put a program of this shell code before others of its name."""
        (self.programs / program).write_text(f"#!/usr/bin/env bash\n{content}\n", encoding="utf-8")
        (self.programs / program).chmod(0o755)

    def run_first(self, program: str, before: str) -> None:
        """Make a program run this shell code first."""
        file = self.programs / program
        file.write_text(file.read_text(encoding="utf-8").replace("\n", f"\n{before}\n", 1), encoding="utf-8")

    def refused(self, name: str, *arguments, **environment) -> str:
        """Run a script that must end in one line and call nothing; return the line."""
        before = self.calls
        result = self.script(name, *arguments, **environment)
        assert result.returncode == 1, result.stdout
        assert self.calls == before
        (line,) = result.stderr.splitlines()
        assert line.startswith(f"{name}.sh: error: ")
        return line

    def done(self, name: str, *arguments, **environment) -> str:
        """Run a script that must succeed; return what it prints."""
        result = self.script(name, *arguments, **environment)
        assert result.returncode == 0, result.stderr
        return result.stdout


def workplace(folder: Path) -> Workplace:
    """Make a workplace with a prepared data set and a teacher, as prepare.sh and train.sh would."""
    programs = folder / "programs"
    programs.mkdir()
    place = Workplace(folder / "runs", programs)
    for name, content in PROGRAMS.items():
        place.add(name, content)
    for name in ("data-bin", "subwords", "text", "teacher"):
        (place.work / name).mkdir(parents=True)
    for name in ("train.en-de.en.bin", "valid.en-de.en.bin", "test.en-de.en.bin", "dict.en.txt"):
        (place.work / "data-bin" / name).write_text(name, encoding="utf-8")
    (place.work / "subwords/settings").write_text("4000 subwords\n", encoding="utf-8")
    (place.work / "teacher/checkpoint_best.pt").write_text("teacher", encoding="utf-8")
    return place
