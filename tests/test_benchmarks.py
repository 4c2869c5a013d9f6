"""The benchmarks in short: servers, drivers and counts are right; speed is not judged here."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "benchmarks"))

import run as bench_run
from bench import contestants, inputs, measure, report, scenarios, servers, targets
from bench.contestants import ENGINE, HYPER, RECIPE, Contestant
from bench.places import BENCHMARKS
from bench.scenarios import Run, Scenario
from bench.servers import Server
from bench.targets import Figure, Runs
from drivers import contract

pytestmark = pytest.mark.once

FEW = 120
QUIET = Scenario("few", latency=0, concurrency=8, entries=())


@pytest.fixture(scope="module")
def bare() -> Iterator[Server]:
    servers.build()
    with servers.bare_server() as server:
        yield server


def once(server: Server, contestant: Contestant, scenario: Scenario = QUIET) -> Run:
    with scenarios.fresh_folder() as folder, scenarios.fresh_folder() as home:
        if contestant is RECIPE:
            contestants.make_home(home, server.base_url)
        contestants.prepare(contestant, folder, home)
        return scenarios.run(scenario, contestant, FEW, server, folder, turn=0)


@pytest.mark.parametrize("contestant", [HYPER, ENGINE, RECIPE], ids=lambda one: one.name)
def test_every_answer_comes_back_to_its_own_request(bare: Server, contestant: Contestant) -> None:
    run = once(bare, contestant)
    assert run.fault == ""
    assert (run.answers, run.sent, run.repeated) == (FEW, FEW, 0)
    assert 0 < run.window <= run.wall
    assert 0 < run.first < run.wall
    assert run.cpu > 0


def test_the_server_holds_each_answer_for_its_latency(bare: Server) -> None:
    slow = replace(QUIET, name="slow", latency=20)
    run = once(bare, HYPER, slow)
    assert run.highest_concurrency == 8
    assert run.ideal == pytest.approx(FEW * 0.020 / 8)
    assert run.over_ideal >= 1.0


def test_what_the_server_turns_away_is_a_fault_and_not_an_answer(bare: Server) -> None:
    run = once(bare, HYPER, replace(QUIET, latency=20, limit=1))
    turned_away = sum(second[1] for second in run.by_second)
    assert turned_away > 0
    assert run.fault == f"{turned_away} answers lost, 0 to another request"
    assert run.highest_concurrency == 1


def test_the_engine_sends_nothing_twice_where_records_are_whole(bare: Server) -> None:
    first, again = scenarios.play_again(FEW, bare)
    assert (first.sent, again.sent) == (FEW, 0)
    assert (again.answers, again.fault) == (FEW, "")


def test_a_driver_that_fails_is_told_in_its_own_words(bare: Server) -> None:
    broken = Contestant("hyper", "limit")
    with scenarios.fresh_folder() as folder:
        job = contract.Job("ftp://nowhere", inputs.requests_file(FEW), folder, 1, FEW)
        ran = measure.measure(broken.command(job), folder, {})
    assert ran.code == 1
    assert ran.errors.strip() == 'Error: "\\"ftp://nowhere\\" does not begin with http://"'


def test_a_wrong_or_second_answer_is_a_mismatch(capsys: pytest.CaptureFixture[str]) -> None:
    tally = contract.Tally(4)
    for marker, text in ((0, "[#0] words"), (1, "[#2] words"), (0, "[#0] words"), (3, None)):
        tally.take(marker, text)
    tally.report(12.5)
    assert json.loads(capsys.readouterr().out) == {"answers": 1, "mismatched": 2, "last": 12.5}


def test_prompts_are_about_a_kilobyte_and_say_who_they_are() -> None:
    assert contract.prompt(12).startswith(
        "[#12] A calm customer writes to the shop about a laptop."
    )
    assert all(960 <= len(contract.prompt(marker).encode()) <= 1024 for marker in range(100))


def test_a_process_is_measured_with_its_children(tmp_path: Path) -> None:
    child = "b = bytearray(80_000_000); e = 0\nfor i in range(2_000_000): e += i"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    measured = measure.measure([sys.executable, "-c", parent], tmp_path, {})
    assert measured.code == 0
    assert measured.cpu > 0.05
    assert measured.rss > 80_000_000


def test_a_process_that_does_not_end_is_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    measured = measure.measure(command, tmp_path, {}, seconds=0.2)
    assert measured.code == -9
    assert measured.wall < 10


def made(contestant: str, **values: object) -> Run:
    """A run that went well: 1,000 answers in a second, if nothing else is said."""
    plain = Run(
        scenario=scenarios.SPEED.name,
        contestant=contestant,
        requests=1000,
        ideal=0.0,
        answers=1000,
        wall=1.5,
        window=1.0,
        first=0.2,
        cpu=0.02,
        rss=30_000_000,
        server_cpu=0.01,
        foreign=0.0,
        sent=1000,
        repeated=0,
        highest_concurrency=256,
        connections=256,
        by_second=[[1000, 0]],
    )
    return replace(plain, **values)


def test_a_missed_figure_is_named_and_a_met_one_is_not() -> None:
    runs = [made("hyper", window=0.4), made("engine"), made("engine", window=9.0), made("engine")]
    done = report.Report("here", True, {}, runs, targets.figures(Runs(runs)))
    assert bench_run.faults(done) == [
        "Missed: engine, share of the hyper client's requests/s: 40 %, at least 50 %."
    ]
    assert bench_run.faults(replace(done, judged=False)) == []


def test_a_run_that_went_wrong_is_named_even_where_nothing_is_judged() -> None:
    runs = [made("hyper"), made("engine", fault="1 answers lost, 0 to another request")]
    done = report.Report("here", False, {}, runs, targets.figures(Runs(runs)))
    assert bench_run.faults(done) == ["engine, 0 ms x 256: 1 answers lost, 0 to another request."]


def test_the_limit_is_judged_after_ten_seconds_and_before_the_drain() -> None:
    rough, settled, drain = [40, 400], [152, 4], [8, 0]
    seconds = [rough] * 10 + [settled] * 5 + [drain] * 2
    runs = Runs([made("engine", scenario=scenarios.LIMITED.name, by_second=seconds)])
    throttled, reached = targets.limits(runs)
    assert str(throttled) == "limit of 8 at once: calls throttled after 10 s: 2.56 %, at most 5 %"
    assert str(reached) == "limit of 8 at once: share of what is allowed: 95 %, at least 85 %"
    assert throttled.met
    assert reached.met


def test_growth_of_memory_is_told_in_percent_and_in_megabytes() -> None:
    small, large = scenarios.SMALL.name, scenarios.LARGE.name
    runs = [made(name, scenario=small, rss=100_000_000) for name in ("engine", "recipe")]
    runs += [made(name, scenario=large, rss=120_000_000) for name in ("engine", "recipe")]
    engine, recipe = targets.memory(Runs(runs))
    assert (engine.value, engine.met) == (pytest.approx(20), False)
    assert (recipe.value, recipe.met) == (20, True)


def test_results_survive_their_file_and_fill_the_page(tmp_path: Path) -> None:
    runs = [made("engine"), made("curator", fault="exit code 1: no network")]
    figure = Figure("engine, something", 2.0, 1.0, "more", " x")
    done = report.Report("a machine", True, {"engine": "wordmill 0.1.0"}, runs, [figure])
    done.write(tmp_path / "bench.json")
    assert report.read(tmp_path / "bench.json") == done
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
    report.write_page(page, {"bench": done})
    words = page.read_text()
    assert words.startswith("before\n<!-- bench -->\na machine.\n\n**0 ms x 256, one run**\n")
    assert "| engine | 1,000 | 1,000 | 1.50 |  | 0.20 | 0.020 | 30 | 0.00 |" in words
    assert "| curator | failed: exit code 1: no network |  |  |  |  |  |  |  |" in words
    assert "| engine, something | 2 x | ≥ 1 x | met |" in words
    assert words.endswith("Versions: wordmill 0.1.0.\n<!-- /bench -->\nafter\n")
    assert "engine            1,000       1,000    1.50" in report.text(done)


def test_the_command_measures_and_says_that_all_is_well() -> None:
    command = [sys.executable, BENCHMARKS / "run.py", "--quick", "--only", "server,speed,again"]
    ran = subprocess.run([*command, "--tools", "hyper,engine"], capture_output=True, text=True)
    assert ran.stdout.endswith("Every run counted right.\n"), ran.stderr
    assert ran.returncode == 0
    assert "hyper 1.12.0" in ran.stdout


def test_a_group_that_nobody_knows_is_refused_by_name() -> None:
    command = [sys.executable, BENCHMARKS / "run.py", "--only", "sped"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 2
    assert "there is no group 'sped': server, speed, latency, limits, again" in ran.stderr
