"""Training a head with the real encoder, on answers made up so that what decides their length is known."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fairlead.config import PredictorConfig
from fairlead.lengths import LengthDistribution
from predictor_svc.cli import app
from predictor_svc.features import COUNTED, PROGRESS_NUMERIC, progress_facts, prompt_facts
from predictor_svc.head import LEVELS, Head
from predictor_svc.predictors.base import Question, open_predictor
from predictor_svc.training.dataset import DataError, read_recorded
from predictor_svc.training.evaluate import scores
from predictor_svc.training.job_results import read_job
from predictor_svc.training.tokens import Tokens, so_far


@pytest.fixture(autouse=True, scope="module")
def logs_of_this_process() -> Iterator[None]:
    """The commands would bind this process's logs to the runner's short-lived standard error."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("predictor_svc.cli.configure_logging", lambda *_: None)
        yield


THINGS = ("fruits", "rivers", "colours", "birds", "tools")


def made_up(count: int, seed: int) -> list[dict[str, object]]:
    """ "Name N things": 6 tokens an item, give or take; sixteen prompts repeat."""
    random = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    for _ in range(count):
        number = int(random.integers(2, 30))
        prompt = f"Name {number} {THINGS[int(random.integers(len(THINGS)))]}, please."
        tokens = max(int(number * 6 * np.exp(0.15 * random.normal())), 1)
        response = "".join(f"{i}. something\n" for i in range(1, number + 1))
        rows.append({"prompt": prompt, "prompt_tokens": 7, "response": response, "response_tokens": tokens})
    return rows


def written(path: Path, rows: list[dict[str, object]], *more: str) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows) + "".join(line + "\n" for line in more)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


BROKEN = [
    "{not json",
    '["a list"]',
    '{"prompt": 5, "response_tokens": 3}',
    '{"prompt": "no length at all"}',
    '{"prompt": "p", "response_tokens": -3}',
    '{"prompt": "p", "response_tokens": 1e99}',
    '{"prompt": "p", "response_tokens": true}',
    '{"prompt": "p", "response_tokens": 3, "prompt_tokens": "many"}',
    "[" * 100_000,
]


def test_broken_lines_are_named_counted_and_skipped_or_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "mixed.jsonl", made_up(3, 0), *BROKEN)
    read = read_recorded(path, on_broken="skip")
    assert len(read.rows) == 3
    assert read.broken_count == len(BROKEN)
    assert [number for number, _ in read.broken] == list(range(4, 4 + len(BROKEN)))
    assert read.broken[0][1] == "not JSON"
    with pytest.raises(DataError, match=r"mixed\.jsonl line 4: not JSON"):
        read_recorded(path, on_broken="refuse")


def test_files_that_are_not_data_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"prompt": "p", "response_tokens": 3}\n' * 1000)[:40])
    (tmp_path / "plain.jsonl.gz").write_text("not gzip")
    (tmp_path / "empty.jsonl").write_text("")
    (tmp_path / "binary.jsonl").write_bytes(bytes(range(256)))
    for name, said in (
        ("cut.jsonl.gz", "damaged"),
        ("plain.jsonl.gz", "damaged"),
        ("empty.jsonl", "no usable row"),
        ("binary.jsonl", "no usable row"),
        ("absent.jsonl", "absent.jsonl"),
    ):
        with pytest.raises(DataError, match=said):
            read_recorded(tmp_path / name, on_broken="skip")


def test_responses_are_counted_where_asked(tmp_path: Path) -> None:
    path = written(tmp_path / "text.jsonl", [{"prompt": "p", "response": "three words here"}])
    assert read_recorded(path, on_broken="skip", count_tokens=lambda text: len(text.split())).rows[0].tokens == 3
    with pytest.raises(DataError, match="--tokenizer"):
        read_recorded(path, on_broken="refuse")


def test_scores_of_a_known_law() -> None:
    random = np.random.default_rng(1)
    location = random.normal(4, 0.5, size=4000).astype(np.float32)
    left = np.exp(location + 0.3 * random.normal(size=4000)).astype(np.float32)
    z = np.quantile(random.normal(size=200_000), LEVELS).astype(np.float32)
    scored = scores(location[:, None] + 0.3 * z, left, np.zeros(4000, np.float32))
    assert scored["coverage_50"] == pytest.approx(0.5, abs=0.03)
    assert scored["coverage_80"] == pytest.approx(0.8, abs=0.03)
    assert scored["coverage_90"] == pytest.approx(0.9, abs=0.02)
    assert scored["r2_log"] == pytest.approx(0.735, abs=0.03)
    assert 0.6 < scored["kendall_tau"] < 0.72


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    folder = tmp_path_factory.mktemp("training")
    data = written(folder / "answers.jsonl.gz", made_up(200, 1))
    arguments = [
        "train", str(data), "--predictor", "encoder", "--out", str(folder / "head"), "--folds", "2", "--members", "1",
        "--epochs", "20",
        "--json", str(folder / "scores.json"),
    ]  # fmt: skip
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "head written to" in result.output
    return folder, json.loads((folder / "scores.json").read_text())


def test_a_head_learns_what_decides_the_length(trained: tuple[Path, dict[str, object]]) -> None:
    folder, report = trained
    first = report["rows"][0]  # type: ignore[index]
    assert first["generated"] == 0
    assert first["kendall_tau"] > 0.7
    assert first["r2_log"] > 0.75
    predictor = open_predictor(PredictorConfig(head=folder / "head"))
    few, many = predictor.predict(
        [Question("m", "t", True, 7, 512, f"Name {number} birds, please.") for number in (4, 25)]
    )
    assert isinstance(few, LengthDistribution)
    assert isinstance(many, LengthDistribution)
    assert few.quantile(0.5) == pytest.approx(24, rel=0.5)
    assert many.quantile(0.5) == pytest.approx(150, rel=0.5)


def test_the_card_says_what_it_was_made_from(trained: tuple[Path, dict[str, object]]) -> None:
    folder, report = trained
    head = Head.loaded(folder / "head")
    assert head.sha256 == report["sha256"]
    assert head.card["data"][0]["rows"] == 200
    assert head.card["held_out_folds"] == 2
    assert head.reads_text


def test_the_same_seed_gives_the_same_head(trained: tuple[Path, dict[str, object]]) -> None:
    folder, _ = trained
    data = written(folder / "few.jsonl", made_up(24, 2))
    hashes: list[str] = []
    for name in ("one", "two"):
        arguments = ["train", str(data), "--predictor", "encoder", "--out", str(folder / name), "--folds", "0"]
        arguments += ["--epochs", "2", "--seed", "7"]
        assert CliRunner().invoke(app, arguments).exit_code == 0
        hashes.append(Head.loaded(folder / name).sha256)
    assert hashes[0] == hashes[1]


def test_evaluate_and_usage_errors(trained: tuple[Path, dict[str, object]]) -> None:
    folder, _ = trained
    data = written(folder / "other.jsonl", made_up(60, 3), "{broken")
    base = ["evaluate", str(data), "--head", str(folder / "head")]
    assert CliRunner().invoke(app, base).exit_code == 2
    result = CliRunner().invoke(app, [*base, "--broken", "skip", "--json", str(folder / "judged.json")])
    assert result.exit_code == 0, result.output
    assert "line 61: not JSON" in result.output
    judged = json.loads((folder / "judged.json").read_text())["rows"]
    assert judged[0]["kendall_tau"] > 0.7
    for arguments, said in (
        ([*base, "--broken", "perhaps"], "skip or refuse"),
        (["evaluate", str(folder / "absent.jsonl")], "absent.jsonl"),
        (["evaluate", str(data), "--broken", "skip", "--head", str(folder)], "card.json"),
        (["train", str(data), "--out", str(folder / "x"), "--tokenizer", str(folder / "absent.json")], "--tokenizer"),
    ):
        refused = CliRunner().invoke(app, arguments)
        assert refused.exit_code == 2
        assert said in refused.output


def test_the_text_after_so_many_tokens_is_what_those_tokens_say() -> None:
    tokens = Tokens.loaded(Path("worker_svc/demo_model/tokenizer.json"))
    text = "1. an apple\n2. a pear, naïve 果物\n3. plums, and so on."
    ends = tokens.ends(text)
    assert len(ends) == tokens.count(text)
    assert (so_far(text, len(ends), 0, ends), so_far(text, len(ends), len(ends), ends)) == ("", text)
    for out in range(1, len(ends)):
        begun = so_far(text, len(ends), out, ends)
        assert text.startswith(begun)
        assert tokens.count(begun) >= out, "a character may need several tokens, a token never more than the text shown"
    assert so_far("abcdef", 3, 2, None) == "abcd", "without a tokenizer the characters are shared evenly"
    with pytest.raises(DataError, match="--tokenizer"):
        Tokens.loaded(Path("pyproject.toml"))


def test_going_in_circles_and_closing_words_are_seen() -> None:
    facts = prompt_facts("Why is the sky blue? Explain.", 8)
    circling = progress_facts(facts, "We can use the first premise to conclude that it is so. " * 12, 150)
    plain = progress_facts(facts, " ".join(f"word{i} is another thing" for i in range(40)), 150)
    ending = progress_facts(facts, "Light is scattered by air. In conclusion, the answer is (B)", 20)
    assert circling.shape == plain.shape == (PROGRESS_NUMERIC,)
    repeated, recent, all_recent = range(COUNTED, COUNTED + 3)
    assert circling[recent] == circling[all_recent] == 1
    assert circling[repeated] > 0.8
    assert plain[repeated] < 0.5
    assert plain[all_recent] == 0
    closing = COUNTED + 7
    assert (ending[closing], plain[closing]) == (1, 0)
    assert not progress_facts(facts, "", 0).any()
    assert not progress_facts(facts, "", 50)[COUNTED:].any(), "no text, nothing read from it"


def test_a_jobs_lines_and_results_are_training_data(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = [
        {"custom_id": "a", "prompt": "Name 3 rivers."},
        {"custom_id": "b", "method": "POST", "url": "/v1/chat/completions",
         "body": {"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."}]}},
        {"prompt": "No name of its own."},
        {"custom_id": "cut", "prompt": "Ran to its bound."},
        {"custom_id": "ids", "prompt": [1, 2, 3]},
    ]  # fmt: skip

    def result(line: int, custom_id: str, outcome: str, tokens: int) -> dict[str, object]:
        usage = {"prompt_tokens": 5, "cached_prompt_tokens": 0, "output_tokens": tokens}
        return {"line": line, "custom_id": custom_id, "outcome": outcome, "text": "said", "usage": usage}

    told = [result(1, "a", "STOP", 7), result(2, "b", "STOP", 8), result(3, "", "STOP", 9)]
    told += [result(4, "cut", "LENGTH", 512), result(5, "ids", "STOP", 4)]
    submitted, results = written(tmp_path / "jobs.jsonl.gz", lines), written(tmp_path / "results.jsonl", told, "{torn")
    read = read_job(submitted, results, on_broken="skip")
    assert [(row.prompt, row.tokens) for row in read.rows] == [
        ("Name 3 rivers.", 7), ("Be brief.\nHello.", 8), ("No name of its own.", 9)
    ]  # fmt: skip
    assert [number for number, _ in read.broken] == [5], "a prompt of token ids has no text to learn from"
    with pytest.raises(DataError, match=r"results\.jsonl line 6: no result of a job"):
        read_job(submitted, results, on_broken="refuse")
    refused = CliRunner().invoke(
        app, ["train", str(submitted), str(submitted), "--results", str(results), "--out", "x"]
    )
    assert refused.exit_code == 2
