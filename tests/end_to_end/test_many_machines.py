"""Many machines: who shares a store and a scheduler shares the work, and nothing is made twice."""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter
from contextlib import ExitStack

import namespaces
import own
import pytest
import servers
from conftest import ROOT, new_repo, textures
from faults import Proxy, kill_group, wait_until
from ruamel.yaml import YAML

SLOW = """
        names = [hashlib.md5(chip.tobytes()).hexdigest() for chip in chips.numpy() if chip.any()]
        with open(os.environ["MADE"], "a") as stream:
            stream.write(json.dumps([os.getcwd(), os.getpid(), sorted(names)]) + "\\n")
        time.sleep(float(os.environ.get("SLOW", "0.05")))
"""
CHIPS = 144


class Machines:
    """Checkouts of one repository in folders of their own, which share what they are told to."""

    def __init__(self, folder, stack):
        self.folder, self.stack = folder, stack
        self.bucket = textures(folder / "bucket")
        self.env = {"MADE": str(folder / "made.txt")}
        self.central = ""

    def luigid(self, address="127.0.0.1"):
        """Start a scheduler, which gives up a machine that has gone after five seconds."""
        text = (ROOT / "luigi.cfg").read_text()
        config = self.folder / "luigid.cfg"
        config.write_text(text.replace("disconnect_delay = 30", "disconnect_delay = 5"))
        server = servers.luigid(self.folder / "luigid", address=address, config=config)
        found = self.stack.enter_context(server)
        self.central = f"false\nscheduler_host = {address}\nscheduler_port = {found.port}"
        return found

    def store_in_a_folder(self):
        self.env["QUADRAT_STORE"] = str(self.folder / "store")

    def store_on_s3(self, address="127.0.0.1"):
        behind = self.stack.enter_context(servers.rclone(self.folder / "s3"))
        endpoint = self.stack.enter_context(Proxy(behind, address=address)).endpoint
        self.env |= servers.environment(endpoint) | {
            "QUADRAT_STORE": f"s3://{servers.BUCKET}/store"
        }

    def checkout(self, name, **settings):
        repo = new_repo(self.folder / name, self.bucket)
        repo.env |= self.env
        own.use(repo, SLOW, shards__count=16, **settings)
        if self.central:
            config = repo.path / "luigi.cfg"
            text = config.read_text()
            config.write_text(
                text.replace("local_scheduler = true", f"local_scheduler = {self.central}")
            )
        repo.run("git", "add", "-A")
        repo.run("git", "commit", "-qm", "slow")
        return repo

    def start(self, repo, *command, host=None, **env):
        """Start a command in a checkout; its output goes to a file beside it."""
        words = host.command(list(command)) if host else command
        with (repo.path.parent / f"{repo.path.name}.log").open("w") as stream:
            process = subprocess.Popen(
                words,
                cwd=repo.path,
                env=repo.env | env,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.stack.callback(kill_group, process)
        return process

    def worker(self, name, idle=30, host=None, **env):
        """Start a machine that joins; give its process and its checkout."""
        repo = self.checkout(name)
        repo.bucket = None
        (repo.path / "points.csv").unlink()
        command = ("python", "-m", "stages.worker", "--idle", str(idle))
        return self.start(repo, *command, host=host, **env), repo

    def log(self, repo):
        return (repo.path.parent / f"{repo.path.name}.log").read_text()

    def made(self):
        """How often each chip was embedded, and how many in each checkout."""
        path = self.folder / "made.txt"
        each, where, last = Counter(), Counter(), {}
        for line in path.read_text().splitlines() if path.exists() else []:
            folder, process, names = json.loads(line)
            if last.get(process) != names:  # the engine sees its first batch twice, to compare
                each.update(names)
                where[folder.rpartition("/")[2]] += len(names)
            last[process] = names
        return each, where


@pytest.fixture
def machines(tmp_path):
    with ExitStack() as stack:
        yield Machines(tmp_path, stack)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The bytes of one run on one machine."""
    alone = Machines(tmp_path_factory.mktemp("undisturbed"), ExitStack())
    repo = alone.checkout("alone")
    repo.run("dvc", "repro")
    assert sum(alone.made()[0].values()) == CHIPS
    return repo.digests()


def ended(process, repo, machines):
    assert process.wait(240) == 0, machines.log(repo)


def same(repo, wanted):
    found = repo.digests()
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if found[name] != wanted[name]] == []


def once(machines):
    """Assert that every chip was embedded, and none twice."""
    each, where = machines.made()
    assert set(each.values()) == {1}
    assert len(each) == CHIPS
    return where


def two_at_once(machines, undisturbed):
    """Run two checkouts at the same time; both end with the bytes of an undisturbed run."""
    repos = [machines.checkout(name) for name in ("one", "other")]
    runs = [machines.start(repo, "dvc", "repro") for repo in repos]
    for run, repo in zip(runs, repos, strict=True):
        ended(run, repo, machines)
        same(repo, undisturbed)


@pytest.mark.slow
def test_two_checkouts_with_one_scheduler_make_nothing_twice(machines, undisturbed):
    machines.luigid()
    machines.store_in_a_folder()
    two_at_once(machines, undisturbed)
    once(machines)


@pytest.mark.slow
def test_two_checkouts_without_a_scheduler_do_each_other_no_harm(machines, undisturbed):
    machines.store_in_a_folder()
    two_at_once(machines, undisturbed)
    assert len(machines.made()[0]) == CHIPS


def queued(machines, repo):
    """Run two experiments at once by DVC's queue; give the digest of each one's features."""
    repo.run("dvc", "exp", "run", "--queue", "-S", "train.learning_rate=1e-3,1e-4")
    repo.run("dvc", "queue", "start", "-j", "2")
    machines.stack.callback(repo.run, "dvc", "queue", "stop", "--kill", check=False)

    def done():
        status = repo.run("dvc", "queue", "status").stdout
        assert "Failed" not in status, status
        return status.count("Success") == 2

    wait_until(done, 300)
    refs = repo.run("git", "for-each-ref", "--format=%(refname)", "refs/exps").stdout.split()
    locks = [repo.run("git", "show", f"{ref}:dvc.lock", check=False).stdout for ref in refs]
    outs = [YAML(typ="safe").load(lock)["stages"]["extract"]["outs"] for lock in locks if lock]
    return [digest_of_features(stage_outs) for stage_outs in outs]


def digest_of_features(outs):
    """Return the digest of data/features among the outs of a dvc.lock."""
    return next(out["md5"] for out in outs if out["path"] == "data/features")


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", [True, False])
def test_queued_experiments_share_one_store(machines, undisturbed, scheduler):
    if scheduler:
        machines.luigid()
    repo = machines.checkout("one")
    features = queued(machines, repo)
    assert len(features) == 2
    assert len(set(features)) == 1
    if scheduler:
        once(machines)
    repo.run("dvc", "repro")
    same(repo, undisturbed)
    lock = YAML(typ="safe").load(repo.path / "dvc.lock")
    assert digest_of_features(lock["stages"]["extract"]["outs"]) == features[0]


@pytest.mark.slow
def test_a_temporary_experiment_beside_a_run_makes_nothing_twice(machines, undisturbed):
    machines.luigid()
    repo = machines.checkout("one")
    other = machines.checkout("other")
    other.env["QUADRAT_STORE"] = str(repo.path / ".quadrat/store")
    aside = machines.start(repo, "dvc", "exp", "run", "--temp", "-S", "train.epochs=2")
    run = machines.start(other, "dvc", "repro")
    ended(run, other, machines)
    ended(aside, repo, machines)
    once(machines)
    same(other, undisturbed)


@pytest.mark.slow
def test_workers_come_take_shards_are_killed_and_leave(machines, undisturbed):
    """One is there before the leader, one comes later, one is killed with shards in hand."""
    machines.luigid()
    machines.store_on_s3()
    early, early_repo = machines.worker("early", SLOW="0.3")
    leader = machines.checkout("leader")
    run = machines.start(leader, "dvc", "repro", SLOW="0.3")
    doomed, _ = machines.worker("doomed", SLOW="2")
    wait_until(lambda: machines.made()[1]["doomed"], 60)
    late, late_repo = machines.worker("late", SLOW="0.3")
    kill_group(doomed)
    ended(run, leader, machines)
    same(leader, undisturbed)
    each, where = machines.made()
    assert len(each) == CHIPS
    # The killed one's processes had each up to as many shards in hand as a machine takes at once.
    again = sum(each.values()) - CHIPS
    assert again <= where["doomed"]
    assert where["early"] > 0
    for process in (early, late):
        process.send_signal(signal.SIGTERM)
    early.wait(20)
    late.wait(20)
    for repo in (early_repo, late_repo):
        assert "Traceback" not in machines.log(repo)


@pytest.mark.slow
def test_a_worker_leaves_by_itself_and_takes_nothing_by_another_recipe(machines, undisturbed):
    machines.luigid()
    machines.store_on_s3()
    other = machines.checkout("other")
    own.other(other)
    process = machines.start(other, "python", "-m", "stages.worker", "--idle", "12")
    leader = machines.checkout("leader")
    ended(machines.start(leader, "dvc", "repro"), leader, machines)
    ended(process, other, machines)
    said = machines.log(other)
    assert "ExtractShard by recipe" in said
    assert "is left to others: with this machine's device, libraries, code and weights" in said
    assert "nothing to do for 12 s; leaving" in said
    assert set(once(machines)) == {"leader"}
    same(leader, undisturbed)


@pytest.mark.slow
def test_a_worker_whose_code_was_edited_while_it_ran_is_not_asked_for_the_new(machines):
    """It would compute with the code that it has loaded, under the name of the new."""
    machines.luigid()
    machines.store_on_s3()
    old, old_repo = machines.worker("old", idle=600)
    leader = machines.checkout("leader")
    ended(machines.start(leader, "dvc", "repro", SLOW="0.3"), leader, machines)
    assert machines.made()[1]["old"] > 0
    before = machines.made()[1]["old"]
    for repo in (leader, old_repo):
        own.other(repo)
    ended(machines.start(leader, "dvc", "repro", SLOW="0.3"), leader, machines)
    old.send_signal(signal.SIGTERM)
    old.wait(20)
    assert machines.made()[1]["old"] == before
    assert "is left to others" in machines.log(old_repo)


@pytest.mark.slow
@pytest.mark.skipif(namespaces.why_not() is not None, reason=str(namespaces.why_not()))
def test_machines_with_addresses_of_their_own_make_one_run(machines, undisturbed):
    hosts = machines.stack.enter_context(namespaces.hosts(3))
    machines.luigid(address=hosts[0].machine)
    machines.store_on_s3(address=hosts[0].machine)
    leader = machines.checkout("leader")
    helpers = [
        machines.worker(f"helper{number}", idle=10, host=host, SLOW="0.3")
        for number, host in enumerate(hosts[1:])
    ]
    run = machines.start(leader, "dvc", "repro", host=hosts[0], SLOW="0.3")
    ended(run, leader, machines)
    for process, repo in helpers:
        ended(process, repo, machines)
    same(leader, undisturbed)
    where = once(machines)
    assert sum(where[f"helper{number}"] for number in range(2)) > 0


def test_make_worker_is_the_documented_command():
    command = ["make", "--no-print-directory", "-n", "-o", "setup", "worker", "IDLE=60"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split() == ["python", "-m", "stages.worker", "--idle", "60"]
