"""Commands, functions and jobs while a part of all that AWS is asked goes wrong: the account converges, every file has its output, none has two.

A seed is a storm. Without `--whole` one of them rages.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.chaos.choice import Choice
from tests.chaos.oracles import PutCount, differences
from tests.chaos.storming import MODES, WITHIN_S, Deployed, Storm, TwoInThree, definitions, storm_on, wait_for
from tests.support.fault_proxy import Cut

SEEDS = 6


@pytest.fixture(autouse=True)
def calm(deployed: Deployed) -> Iterator[None]:
    """Each test makes its own storm."""
    yield
    deployed.storm.calm()


def seeds(choice: Choice) -> list[int]:
    return list(range(SEEDS)) if choice.whole else [0]


def test_commands_in_a_storm_and_killed_in_it_converge(deployed: Deployed, choice: Choice) -> None:
    """CL1, CL6: rm and init until they say that they are done leave what they leave in calm weather; the second init then writes nothing.

    Where lists are stale too, as AWS's own may be, no command can know better: the next one after the storm does what is left.
    """
    storm = deployed.storm
    for seed in seeds(choice):
        drawn, stale = choice.random(f"commands {seed}"), seed % 2 == 1
        steps = [("rm", "all.yaml", deployed.empty), ("init", "all.yaml", deployed.whole)]
        if choice.whole:
            storm.write("edited.yaml", *edited(storm))
            steps.insert(0, ("init", "edited.yaml", None))
        for verb, file, expected in steps:
            storm.commands.story.append(f"seed {choice.seed}, storm {seed}, {verb} {file}")
            storm_on(storm.commands, drawn, 0.12, stale=stale)
            kill_after(storm, drawn.uniform(0.4, 5), verb, "-f", file)
            storm.until_done(verb, "-f", file)
            storm.calm()
            if stale:
                storm.must(verb, "-f", file)
            if expected is not None:
                assert differences(expected, deployed.dump()) == [], storm.story
            if verb == "init":
                assert storm.writes_of("init", "-f", file) == [], storm.story


def edited(storm: Storm) -> list[dict[str, Any]]:
    """All functions with more memory and another input, one in another mode."""
    made = definitions(storm)
    for one in made:
        body = one["lambda"]
        body |= {"memory": 640, "input": [{"path": f"bucket-{body['name']}/other"}]}
    made[1]["lambda"] |= {"execution_mode": "lambda"}
    del made[1]["batch"]
    return made


CUT = [("logs", "DescribeLogGroups"), ("batch", "DescribeJobQueues"), ("tagging", "GetResources"), ("iam", "GetRole")]


def test_an_answer_that_is_cut_is_asked_for_again_and_not_taken_for_an_empty_one(deployed: Deployed) -> None:
    """CL1: of JSON that is cut botocore makes a document without members, of which a command would read that there is nothing."""
    storm = deployed.storm
    storm.write("one.yaml", *(one for one in definitions(storm) if one["lambda"]["name"] == "both"))
    rules = [storm.commands.add(service, operation, Cut(2)) for service, operation in CUT]
    assert storm.writes_of("init", "-f", "one.yaml") == []
    assert all(rule.met > 1 for rule in rules)


def kill_after(storm: Storm, seconds: float, *words: str) -> None:
    process = storm.start(*words)
    time.sleep(seconds)
    process.kill()
    process.communicate()


def test_every_file_has_its_output_once_whatever_its_functions_agents_meet(deployed: Deployed, choice: Choice) -> None:
    """TM3, XF7, BA12 with the whole product: in Lambda, handed over, in Batch and through a chain of two."""
    storm = deployed.storm
    known = {str(item["token"]) for item in storm.local.given_up()}  # of other tests, which want them
    for seed in seeds(choice):
        count = 12 if choice.whole else 3
        files = {name: [f"{name}-{seed}-{n}" for n in range(count)] for name in ("plain", "both", "heavy", "first")}
        ends = {name: name for name in MODES} | {"first": "second"}
        storm_on(storm.commands, choice.random(f"put {seed}"), 0.15)
        storm_on(storm.agents, choice.random(f"agents {seed}"), 0.3, spare=TwoInThree())
        for name, stems in files.items():
            folder = storm.local.folder / f"{name}-{seed}"
            folder.mkdir()
            for n, stem in enumerate(stems):
                text = json.dumps({"text": f"of {stem}"}) if name == "first" else f"of {stem}"
                todo = {"text": text, "sleep_lambda": 60 if name == "both" and n % 2 else 0}
                (folder / f"{stem}.json").write_text(json.dumps(todo))
            storm.until_done("put", "-b", f"bucket-{name}/in", "-p", folder.name)
        expected = {f"bucket-{ends[name]}/out/{stem}.out" for name, stems in files.items() for stem in stems}
        wait_for("all outputs", partial(_are_there, storm, expected, known), lambda: storm.story, WITHIN_S)
        deployed.until_quiet()
        storm.calm()
        for name, stems in files.items():
            _each_once(storm, ends[name], stems, f"seed {choice.seed}, storm {seed}")
        assert not [place for place in storm.local.leftovers.uploads(storm.local.client) if "/out/" in place]


def _are_there(storm: Storm, expected: set[str], known: set[str]) -> bool:
    given_up = [item for item in storm.local.given_up() if item["token"] not in known]
    assert given_up == [], f"{given_up}\n{storm.story}"
    buckets = {place.partition("/")[0] for place in expected}
    return expected <= {f"{bucket}/{key}" for bucket in buckets for key in storm.local.keys(bucket, "out/")}


def _each_once(storm: Storm, name: str, stems: list[str], where: str) -> None:
    """The right bytes, under no other name; and written once for each upload of its input, but for answers that were lost."""
    bucket = f"bucket-{name}"
    s3 = storm.local.client("s3")
    puts = PutCount(storm.local.client, bucket)
    written, given = puts.versions("out/"), puts.versions("in/")
    found = {key for key in written if any(key.startswith(f"out/{stem}") for stem in stems)}
    assert found == {f"out/{stem}.out" for stem in stems}, f"{where}\n{storm.story}"
    for stem in stems:
        key = f"out/{stem}.out"
        body = s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
        assert body == f"of {stem}", f"{where}: {key}\n{storm.story}"
        lost = sum(f" s3 PutObject /{bucket}/{key}: Lose" in line for line in storm.agents.story)
        runs = sum(count for one, count in given.items() if one.startswith(f"in/{stem}."))
        assert 1 <= written[key] <= runs + lost, f"{where}: {key} {written[key]} {runs} {lost}\n{storm.story}"


def test_put_and_get_killed_in_a_storm_carry_every_file_whole(deployed: Deployed, choice: Choice) -> None:
    """CL1, XF1, XF2: cut, flipped, refused, lost and killed: what is there is whole at any time, and in the end it is all there and nothing else."""
    storm, s3 = deployed.storm, deployed.storm.local.client("s3")
    for seed in seeds(choice):
        drawn = choice.random(f"carried {seed}")
        files = {f"carried-{seed}/f{n:02}.bin": drawn.randbytes(drawn.randrange(40_000)) for n in range(10)}
        files[f"carried-{seed}/large.bin"] = drawn.randbytes(17 << 20)
        for name, content in files.items():
            place = storm.local.folder / name
            place.parent.mkdir(exist_ok=True)
            place.write_bytes(content)
        where = f"seed {choice.seed}, storm {seed}"
        storm_on(storm.commands, drawn, 0.15)
        put = ("put", "-b", f"bucket-plain/aside/carried-{seed}", "-p", f"carried-{seed}")
        get = ("get", "-b", f"bucket-plain/aside/carried-{seed}", "-p", f"got-{seed}")
        got = storm.local.folder / f"got-{seed}" / "aside"
        for words in (put, get):
            for _ in range(3 if choice.whole else 1):
                kill_after(storm, drawn.uniform(0.3, 2.5), *words)
                stored = storm.local.keys("bucket-plain", f"aside/carried-{seed}/")
                _whole(files, {key.removeprefix("aside/"): _body(s3, key) for key in stored}, f"{where}\n{storm.story}")
                _whole(files, {name: (got / name).read_bytes() for name in files if (got / name).exists()}, where)
            storm.until_done(*words)
        storm.calm()
        stored = storm.local.keys("bucket-plain", f"aside/carried-{seed}/")
        assert {key.removeprefix("aside/") for key in stored} == files.keys(), f"{where}\n{storm.story}"
        _whole(files, {name: (got / name).read_bytes() for name in files}, f"{where}\n{storm.story}")
        # A get that was killed leaves what it was writing, hidden; as files' names nobody sees anything but files.
        left = [path.name for path in got.rglob("*") if path.is_file() and not path.name.startswith(".scar-")]
        assert sorted(left) == sorted(name.rpartition("/")[2] for name in files), where


def _body(s3: Any, key: str) -> bytes:
    content: bytes = s3.get_object(Bucket="bucket-plain", Key=key)["Body"].read()
    return content


def _whole(files: dict[str, bytes], found: dict[str, bytes], where: str) -> None:
    broken = [name for name, content in found.items() if files[name] != content]
    assert broken == [], where
