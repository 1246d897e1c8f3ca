"""Ranks as actors of a Ray cluster, here of one or two nodes on this machine's loopback."""

import os
import re
import secrets

import jsonschema
import pytest
import yaml
from helpers import ROOT, Late, gone, numbered, ranks_of, until

import lepton_lab as lab
from lepton_lab.errors import LabError, SpecError
from lepton_lab.launchers.ray.supervisor import Actors
from lepton_lab.store.folder import RunFolder

utils = Late("ray.cluster_utils")
NODE = {"node_ip_address": "127.0.0.1", "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def cluster(standby):
    """A Ray cluster of one node with two CPUs, which wants a token."""
    with pytest.MonkeyPatch.context() as own:
        own.setenv("RAY_AUTH_MODE", "token")
        own.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        own.setenv("RAY_USAGE_STATS_ENABLED", "0")
        own.setenv("AUTOSCALER_METRIC_PORT", "0")
        cluster = utils.Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 2})
        yield cluster
        cluster.shutdown()


@pytest.fixture
def spec(endless):
    return endless.replace(strategy="ddp", checkpoint_every=1, batch_size=128)


def losses(run, last):
    """Mean over ranks of the loss of each of the first steps."""
    return run.frame("train").query("step <= @last").groupby("step").loss.mean().tolist()


def ended(run, state="stopped"):
    assert run.wait(90) == state, run.failure
    return run


@pytest.mark.slow
def test_a_run_waits_for_room_on_the_cluster_and_takes_its_own(spec, cluster):
    on = lab.Ray(cluster.address)
    run = lab.launch(spec, on=on)
    until(lambda: run.state == "running")
    assert [node["ranks"] for node in run.facts["nodes"]] == [[0, 1]]
    second = lab.launch(spec.replace(world=1, strategy="single"), on=on)
    until(lambda: second.state == "queued" and "waits for room" in second.remark)
    until(lambda: "for 1 rank of 1 CPU: 0 of 2 CPUs are free" in second.remark)  # Ray tells what is free a moment late
    run.stop()
    assert not ended(run).remark
    until(lambda: second.state == "running")
    assert not second.remark
    second.stop()
    ended(second)


@pytest.mark.slow
def test_a_run_that_is_queued_can_be_called_off(spec, cluster):
    on = lab.Ray(cluster.address)
    run = lab.launch(spec, on=on)
    until(lambda: run.state == "running")
    second = lab.launch(spec, on=on)
    until(lambda: "waits for room" in second.remark)
    second.stop()
    assert ended(second).remark == "stopped before its ranks began"
    run.stop()
    ended(run)


@pytest.mark.slow
def test_what_the_cluster_never_has_room_for_and_a_token_that_it_does_not_take_are_said(spec, cluster, monkeypatch):
    many = lab.launch(spec.replace(world=3), on=lab.Ray(cluster.address))
    large = lab.launch(spec, on=lab.Ray(cluster.address, cpus=2))
    with monkeypatch.context() as own:
        own.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        stranger = lab.launch(spec, on=lab.Ray(cluster.address))
    for run in (many, large, stranger):
        ended(run, "failed")
    said = [run.failure.message for run in (many, large, stranger)]
    assert "world=3: the Ray cluster has room for 2 ranks of 1 CPU, with 2 CPUs on 1 node in all" in said[0]
    assert "room for 1 ranks of 2 CPUs" in said[1]
    assert "can't be joined: " in said[2] and "RAY_AUTH_TOKEN its token" in said[2]


@pytest.mark.slow
def test_an_actor_that_is_killed_costs_the_steps_since_the_checkpoint(spec, cluster):
    run = lab.launch(spec, on=lab.Ray(cluster.address))
    until(lambda: run.store.checkpoints())
    numbered(ranks_of(run))[1].kill()
    until(lambda: run.facts["attempt"] == 2 and run.state == "running")
    at = run.store.story().step
    until(lambda: run.store.story().step > at)
    run.stop()
    ended(run)
    assert any("rank 1 was lost" in row.get("text", "") for row in run.rows("note"))
    alone = lab.launch(spec)
    until(lambda: alone.store.story().step > 10)
    alone.stop()
    assert losses(run, 10) == pytest.approx(losses(ended(alone), 10), rel=1e-5)


@pytest.mark.slow
def test_ranks_that_are_lost_again_and_again_end_the_run(spec, cluster):
    def broken(output, target):
        os._exit(3)

    run = lab.launch(spec, loss=broken, on=lab.Ray(cluster.address))
    ended(run, "failed")
    assert "ranks were lost 5 times without a checkpoint after step 0" in run.failure.message


@pytest.mark.slow
def test_a_node_that_is_removed_is_waited_for_and_the_run_goes_on(spec, cluster):
    node = cluster.add_node(**NODE, num_cpus=2)
    first = lab.launch(spec.replace(world=1, strategy="single"), on=lab.Ray(cluster.address))
    until(lambda: first.store.checkpoints())
    run = lab.launch(spec.replace(world=3), on=lab.Ray(cluster.address))
    until(lambda: run.store.checkpoints())
    assert sorted(len(node["ranks"]) for node in run.facts["nodes"]) == [1, 2]
    cluster.remove_node(node, allow_graceful=False)
    until(lambda: run.state == "queued" and "waits for room" in run.remark)
    node = cluster.add_node(**NODE, num_cpus=2)
    until(lambda: run.facts["attempt"] == 2 and run.state == "running")
    for each in (run, first):
        each.stop()
        ended(each)
    cluster.remove_node(node)


@pytest.mark.slow
@pytest.mark.timeout(900)  # fifty processes that import torch, on whatever machine
def test_fifty_runs_are_let_in_by_the_cluster_and_a_node_that_goes_costs_none_of_them(spec, cluster):
    node = cluster.add_node(**NODE, num_cpus=2)
    small = spec.replace(strategy="single", world=1, epochs=1)
    runs = lab.launch([small.replace(seed=seed) for seed in range(50)], on=lab.Ray(cluster.address))
    until(lambda: sum(run.state == "done" for run in runs) >= 20, 400)
    cluster.remove_node(node, allow_graceful=False)
    assert [run.wait(400) for run in runs] == ["done"] * 50
    assert not any(run.remark for run in runs)


@pytest.mark.slow
def test_a_cluster_of_its_own_is_on_the_loopback_and_goes_with_the_run(spec):
    run = lab.launch(spec, on=lab.Ray())
    until(lambda: run.store.checkpoints())
    supervisor = next(p for p in ranks_of(run)[0].parents() if p.name() == "lepton-super")
    processes = supervisor.children(recursive=True)
    sockets = [each for process in processes for each in process.net_connections() if each.status == "LISTEN"]
    assert {each.laddr.ip.removeprefix("::ffff:") for each in sockets} == {"127.0.0.1"}
    assert 8265 not in {each.laddr.port for each in sockets}, "no dashboard"
    run.stop()
    ended(run)
    assert gone(processes)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"address": 5}, "address=5"),
        ({"address": "head"}, "address='head': must be host and port"),
        ({"address": "ray://head:10001"}, "ray:// is for programs outside of a cluster"),
        ({"cpus": 0}, "cpus=0"),
    ],
)
def test_what_makes_no_sense_is_refused(values, words):
    with pytest.raises(SpecError, match=words):
        lab.Ray(**values)


def test_where_no_cluster_is_nothing_starts(spec):
    with pytest.raises(SpecError, match=r"no machine is known by the name 'no\.such\.host\.invalid'"):
        lab.launch(spec, on=lab.Ray("no.such.host.invalid:6379"))
    with pytest.raises(SpecError, match="no Ray cluster answers there"):
        lab.launch(spec, on=lab.Ray("127.0.0.1:1"))
    with pytest.raises(SpecError, match="parameter_server"):
        lab.launch(spec.replace(strategy="hogwild"), on=lab.Ray())
    assert not lab.runs()


def test_a_cluster_that_has_gone_while_a_run_was_queued_ends_it_with_a_sentence(spec):
    folder = RunFolder.create(spec)
    needs = {"folder": str(folder.path), "device": "cpu", "world": 2, "launcher": lab.Ray("127.0.0.1:1").facts}
    coming = Actors(needs, folder.lock(), {"cwd": "/", "path": []}, safe=True)
    coming.own = False
    with pytest.raises(LabError, match="no Ray cluster answers there"):
        coming.start(["turn0"])
    coming.log.close()
    os.close(coming.lock)


def record(required=(), **fields):
    """The schema of an object that has no other fields."""
    return {"type": "object", "properties": fields, "required": [*required], "additionalProperties": False}


TEXT, COUNT, ANY = {"type": "string"}, {"type": "integer", "minimum": 0}, {"type": "object"}
TEXTS = {"type": "object", "additionalProperties": TEXT}
TEMPLATE = record(
    ["spec"], spec=record(["containers"], containers={"type": "array", "items": ANY}, volumes={"type": "array"})
)
WORKERS = record(
    ["groupName", "minReplicas", "maxReplicas", "rayStartParams", "template"],
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    rayStartParams=TEXTS,
    template=TEMPLATE,
)
CLUSTER = record(
    ["headGroupSpec"],
    rayVersion=TEXT,
    authOptions=record(mode={"enum": ["disabled", "token"]}),
    headGroupSpec=record(["rayStartParams", "template"], rayStartParams=TEXTS, template=TEMPLATE),
    workerGroupSpecs={"type": "array", "items": WORKERS},
)
JOB = record(
    ["apiVersion", "kind", "metadata", "spec"],
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=record(["name"], name=TEXT),
    spec=record(
        entrypoint=TEXT,
        shutdownAfterJobFinishes={"type": "boolean"},
        ttlSecondsAfterFinished=COUNT,
        rayClusterSpec=CLUSTER,
    ),
)
"""Of KubeRay's RayJob, https://docs.ray.io/en/master/kuberay/references/api.html, the fields that our job file has."""


def test_the_job_file_for_kuberay_has_fields_that_it_knows_and_room_for_the_ranks():
    blocks = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs" / "cluster.md").read_text(), re.DOTALL)
    job = next(yaml.safe_load(text) for kind, text in blocks if kind == "yaml" and "RayJob" in text)
    jsonschema.validate(job, JOB)
    cluster, script = job["spec"]["rayClusterSpec"], job["spec"]["entrypoint"].split()[-1]
    (group,) = cluster["workerGroupSpecs"]
    heads, workers = (each["template"]["spec"] for each in (cluster["headGroupSpec"], group))
    for pod in (heads, workers):
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert script.startswith(mounts[pod["volumes"][0]["name"]] + "/"), "the script lies on the shared volume"
    cpus = group["replicas"] * int(workers["containers"][0]["resources"]["limits"]["cpu"])
    assert f"world={cpus}" in next(
        text for kind, text in blocks if kind == "python" and "lab.Ray())" in text and "__main__" in text
    )
    with pytest.raises(jsonschema.ValidationError, match="shutDown"):
        jsonschema.validate({**job, "spec": {**job["spec"], "shutDown": True}}, JOB)
