"""Export a student as CTranslate2 models that are checked to translate as it does in fairseq, with a summary.

The folder holds one model for each compute type, with its vocabulary; the subword model; translate.py, which needs
neither torch nor fairseq, with its settings and requirements; and summary.html, summary.md and summary.json.
It appears under its name whole or not at all.
"""

import logging
from dataclasses import asdict
from pathlib import Path

from nmt_kd.checkpoints.dictionaries import check_dictionaries
from nmt_kd.checkpoints.reading import file_hash, read_model
from nmt_kd.checkpoints.task import translation_task_on
from nmt_kd.decoding.ctranslate2_backend import INT8_ON_CPUS, convert_checkpoint
from nmt_kd.engine.loading import load_checkpoints
from nmt_kd.engine.teacher import Teacher
from nmt_kd.exporting.checks import check_ctranslate2, check_output, files_in
from nmt_kd.exporting.comparison import TranslationComparison
from nmt_kd.exporting.faithfulness import check_faithful, losses, recommended
from nmt_kd.exporting.notes import machine, notes_on_figures, notes_on_models, notes_on_quality
from nmt_kd.exporting.page import page
from nmt_kd.exporting.portability import translate_without_vnni
from nmt_kd.exporting.runnable import write_runnable
from nmt_kd.exporting.sample import Measurement, Sample
from nmt_kd.exporting.shortlist import shortlist
from nmt_kd.exporting.speed import latency, measure, torch_threads
from nmt_kd.exporting.summary import Summary
from nmt_kd.exporting.systems import SHORTLIST, ctranslate2_system, fairseq_system
from nmt_kd.options import check_options
from nmt_kd.storage.atomic import atomic_folder
from nmt_kd.storage.kinds import EXPORT_SUMMARY
from nmt_kd.subword_model import SubwordModel

logger = logging.getLogger(__name__)


def export(
    checkpoint: Path,
    data: str,
    subword_model: Path,
    compute_types: list[str],
    output: Path,
    teacher: str | None = None,
    measurement: Measurement | None = None,
    shortlist_corpus: str | None = None,
) -> Summary:
    """Write the student in `checkpoint` to the folder `output` as CTranslate2 models, and measure them beside fairseq.

    `data` is the folder with the dictionaries and the sentences to measure on, `subword_model` the file that split its
    text (a sentencepiece model, or BPE codes of subword-nmt), `teacher` a checkpoint or several, separated by ":",
    `shortlist_corpus` a folder with binarised data for a shortlist of likely target words.

    Raises UserError, and leaves `output` as it was, if CTranslate2 is not installed or cannot convert the checkpoint,
    if the files do not belong together, if `output` contains anything but an earlier export of the same checkpoint,
    and if a float32 or float16 model translates fewer than 95 % of the sentences as well as fairseq does.
    """
    compute_types = list(dict.fromkeys(compute_types))
    measurement, output = measurement or Measurement(), output.resolve()
    check_options(asdict(measurement), Measurement)
    check_ctranslate2(str(checkpoint), compute_types, measurement)
    state = read_model(checkpoint)
    fingerprint = file_hash(checkpoint)
    check_output(output, fingerprint)
    task = translation_task_on(checkpoint, state["cfg"], data)
    check_dictionaries(checkpoint, state, task)
    subwords = SubwordModel.read(subword_model)
    if teacher:
        Teacher.load(teacher, task)  # only for its checks; it is loaded again below, timed
    with torch_threads(measurement.threads), atomic_folder(output) as folder:
        for compute_type in compute_types:
            logger.info(f"converting {checkpoint} to {compute_type}")
            languages = task.cfg.source_lang, task.cfg.target_lang
            convert_checkpoint(str(checkpoint), task.cfg.data, *languages, folder / compute_type, compute_type)
        if shortlist_corpus:
            listed = shortlist(task, shortlist_corpus)
            for compute_type in compute_types:
                (folder / compute_type / SHORTLIST).write_text(listed, encoding="utf-8")
        student = load_checkpoints([checkpoint], task)
        teachers = [load_checkpoints([Path(path) for path in teacher.split(":") if path], task)] if teacher else []
        sample = Sample.choose(task, measurement, [model for each in (student, *teachers) for model in each.models])
        subwords.check(sample.sources, data)
        write_runnable(folder, subwords, measurement, sample, compute_types[0])
        parameters = student.parameters
        systems = [
            fairseq_system("student, fairseq", student, sample, measurement),
            *(
                ctranslate2_system(kind, folder / kind, parameters, sample, measurement, with_shortlist)
                for kind in compute_types
                for with_shortlist in ([False, True] if shortlist_corpus else [False])
            ),
            *(fairseq_system("teacher, fairseq", each, sample, measurement) for each in teachers),
        ]
        performances = measure(systems, sample, measurement.rounds)
        comparison = TranslationComparison(sample, measurement, subwords, student, performances[0])
        results = []
        for performance in performances:
            kind, with_shortlist, without_vnni = performance.system.converted_to, performance.system.shortlist, None
            if kind in INT8_ON_CPUS:
                without_vnni = translate_without_vnni(folder, kind, with_shortlist, sample.sources)
            result = comparison.result(performance, latency(performance.system, sample), without_vnni)
            if kind and not with_shortlist:
                check_faithful(str(checkpoint), kind, result.as_good_percent)
            results.append(result)
        best = recommended(results)
        write_runnable(folder, subwords, measurement, sample, str(best.converted_to), best.shortlist)
        on_quality = notes_on_quality(results)
        summary = Summary(
            checkpoint=str(checkpoint),
            checkpoint_sha256=fingerprint,
            teacher=teacher,
            data=data,
            measurement=measurement,
            sentences_measured=len(sample.numbers),
            signatures=comparison.signatures,
            machine=machine(),
            results=results,
            recommended=best.system,
            notes=[*notes_on_figures(measurement, sample, comparison), *notes_on_models(results), *on_quality],
        )
        (folder / "summary.md").write_text(summary.as_markdown(), encoding="utf-8")
        (folder / "summary.html").write_text(page(summary, comparison, performances), encoding="utf-8")
        (folder / EXPORT_SUMMARY).write_text(summary.as_json([*files_in(folder), EXPORT_SUMMARY]), encoding="utf-8")
    for result in results:
        if losses(result):
            logger.warning(f"{result.system} loses {', '.join(losses(result))}; see {output / 'summary.md'}")
    logger.info(f"wrote {output}")
    return summary
