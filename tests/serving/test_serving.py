"""Serving: an artifact behind HTTP, called by many at once, by the wrong ones, and with the wrong things."""

import asyncio
import http.client
import io
import json
import math
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from helpers import until
from torch import nn

import lepton_lab as lab
from lepton_lab import artifacts
from lepton_lab.serving.batching import MOST_WAITING, Batcher, Full
from lepton_lab.serving.reading import LARGEST, to_npy

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")  # torch.export's own, while an artifact is written
COUNTS = ("requests", "samples", "calls")
LABELS = ["zero", "one", "two"]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """An artifact of a small model of pixels, under ONNX Runtime: a server without torch starts sooner."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    about = lab.About("mlp", (1, 4, 4), "uint8", labels=LABELS)
    file = tmp_path_factory.mktemp("served") / "small.lepton"
    artifacts.write(file, module, about)
    return file


@pytest.fixture(scope="module")
def artifact(path):
    return lab.load(path)


@pytest.fixture(scope="module")
def server(path):
    """A server for all tests that only ask it."""
    with lab.serve(path) as server:
        yield server.wait()


@pytest.fixture
def samples():
    return np.random.default_rng(0).integers(0, 256, (5, 1, 4, 4), dtype=np.uint8)


def ask(server, method="POST", route="/predict", body=b"", token=None, **headers):
    """Status, body as JSON where it is, and headers of an answer, as another program sees them."""
    address = server.url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=30)
    given = {"Authorization": f"Bearer {server.token if token is None else token}"}
    given |= {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, route, body, given)
    answer = connection.getresponse()
    told = answer.read()
    connection.close()
    return answer.status, told, answer.headers


def refusal(server, body, **headers):
    status, told, _ = ask(server, body=body, **headers)
    return status, json.loads(told)["error"]


def test_a_client_calls_it_as_the_artifact_is_called(server, artifact, samples):
    client = lab.Client(server.url, server.token)
    np.testing.assert_allclose(client(samples), artifact(samples), rtol=1e-6)
    assert client(samples[0]).shape == (3,)
    np.testing.assert_allclose(client(samples.tolist()), artifact(samples), rtol=1e-6)
    scores = client(torch.from_numpy(samples))
    assert isinstance(scores, torch.Tensor) and scores.dtype == torch.float32
    assert client.predict(samples) == artifact.predict(samples)
    assert client.predict(samples[0]) == artifact.predict(samples[0])
    assert client.manifest == artifact.manifest
    assert server.token not in repr(client) + repr(server) + server._repr_html_()


def test_it_returns_at_once_and_the_first_call_waits(path, samples):
    with lab.serve(path) as server:
        assert server.state == "starting"
        assert server.client()(samples).shape == (5, 3)
        assert server.wait(math.inf).state == "ready"
    assert server.state == "stopped"
    with pytest.raises(lab.LabError, match="does not answer"):
        server.client()(samples)
    with pytest.raises(lab.LabError, match="has stopped"):
        server.wait()
    server.stop()


def test_of_200_requests_at_once_none_is_lost_and_calls_are_shared(server, artifact):
    requests = np.random.default_rng(1).integers(0, 256, (200, 1, 4, 4), dtype=np.uint8)
    client, gate = server.client(), threading.Barrier(200)
    before = client.health()

    def one(sample):
        gate.wait()
        return client(sample)

    with ThreadPoolExecutor(200) as threads:
        answers = list(threads.map(one, requests))
    np.testing.assert_allclose(np.stack(answers), artifact(requests), rtol=1e-5, atol=1e-6)
    more = {name: count - before[name] for name, count in client.health().items() if name in COUNTS}
    assert more["requests"] == more["samples"] == 200 and 0 < more["calls"] < 200


def test_requests_of_several_sizes_get_their_own_answers(server, artifact):
    batches = [
        np.random.default_rng(i).integers(0, 256, (1 + 37 * i % 150, 1, 4, 4), dtype=np.uint8) for i in range(24)
    ]
    with ThreadPoolExecutor(24) as threads:
        answers = list(threads.map(server.client(), batches))
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_allclose(answer, artifact(batch), rtol=1e-5, atol=1e-6)


def test_json_is_taken_and_given(server, artifact, samples):
    status, told, _ = ask(server, body=json.dumps({"samples": samples.tolist()}))
    answer = json.loads(told)
    assert status == 200
    np.testing.assert_allclose(answer["scores"], artifact(samples), rtol=1e-5)
    assert answer["labels"] == artifact.predict(samples)
    binary = {"Content_Type": "application/octet-stream"}
    status, told, _ = ask(server, body=to_npy(samples), **binary)  # as curl --data-binary sends a file
    assert status == 200 and json.loads(told)["labels"] == answer["labels"]


def test_floats_may_be_written_as_whole_numbers(tmp_path):
    file = tmp_path / "floats.lepton"
    artifacts.write(file, nn.Linear(2, 1), lab.About("line", (2,), labels=[]), runtime="torch")
    with lab.serve(file) as server:
        status, told, _ = ask(server, body=b'{"samples": [[1, 2], [0, 0]]}')
        assert status == 200 and len(json.loads(told)["scores"]) == 2 and "labels" not in json.loads(told)
        assert server.client().predict(np.zeros((2, 2), np.float32)).shape == (2, 1)
        assert refusal(server, b'{"samples": [[1, NaN]]}') == (422, "samples hold NaN or infinity: must be finite")


@pytest.mark.parametrize("token", ["wrong", "", "\u00fc"])
def test_a_wrong_token_is_told_so(server, samples, token):
    before = server.client().health()["requests"]
    body = json.dumps({"samples": samples.tolist()})
    status, told, headers = ask(server, body=body, token=token)
    assert status == 401 and "token is" in json.loads(told)["error"] and headers["WWW-Authenticate"] == "Bearer"
    assert ask(server, "GET", "/manifest", token="wrong")[0] == 401
    if token.isascii():
        with pytest.raises(lab.LabError, match="401: the token is"):
            lab.Client(server.url, token)(samples)
    assert server.client().health()["requests"] == before


def test_a_wrong_token_is_told_so_before_a_large_body_is_read(server):
    large = np.zeros((200_000, 1, 4, 4), np.uint8)
    with pytest.raises(lab.LabError, match="401"):
        lab.Client(server.url, "wrong")(large)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"nonsense", 400, "not JSON"),
        (b"[" * 100_000, 400, "not JSON"),
        (b"\xff\xfe", 400, "not JSON"),
        (b"[]", 422, "lacks 'samples'"),
        (b'{"inputs": []}', 422, "lacks 'samples'"),
        (b'{"samples": [[[[0]]]], "extra": 1}', 422, "'extra' is not known"),
        (b'{"samples": [[1, 2], [3]]}', 422, "differ in shape"),
        (b'{"samples": null}', 422, "numbers"),
        (b'{"samples": "seven"}', 422, "numbers"),
        (b'{"samples": []}', 422, "must be (batch, 1, 4, 4)"),
        (b'{"samples": [[0, 1]]}', 422, "must be (batch, 1, 4, 4), or (1, 4, 4) for one"),
        (json.dumps({"samples": np.full((1, 4, 4), 256).tolist()}).encode(), 422, "from 0 to 255"),
        (json.dumps({"samples": np.full((1, 4, 4), -1).tolist()}).encode(), 422, "from 0 to 255"),
        (json.dumps({"samples": np.full((1, 4, 4), 0.5).tolist()}).encode(), 422, "raw pixels"),
        (json.dumps({"samples": np.full((1, 4, 4), 10**30, object).tolist()}).encode(), 422, "numbers"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(server, body, status, said):
    found, sentence = refusal(server, body)
    assert (found, said in sentence, "\n" in sentence) == (status, True, False), sentence


def test_binary_that_does_not_fit_is_refused_in_a_sentence(server):
    binary = {"Content_Type": "application/octet-stream"}
    whole, objects = to_npy(np.zeros((1, 1, 4, 4), np.uint8)), io.BytesIO()
    np.save(objects, np.array([print], object), allow_pickle=True)
    for other in ("(1, 1, 4, 5)", "(99999999999, 9)", f"({'9' * 40},)", "(-1, 1, 4, 4)", "((((((((((((", "'a'", "None"):
        header = f"{other}, }}".ljust(55).encode()  # as long as what it replaces
        assert "no .npy file" in refusal(server, whole.replace(b"(1, 1, 4, 4), }".ljust(55), header), **binary)[1]
    for body in (b"", b"12345", whole[:-1], objects.getvalue(), b"PK\x03\x04" + whole):
        assert refusal(server, body, **binary)[0] == 422
    for kind in (bytes, complex, "datetime64[s]"):
        assert "are no numbers" in refusal(server, to_npy(np.zeros((1, 1, 4, 4), kind)), **binary)[1]
    for kind in (">i8", "<i2", "F"):
        array = np.full((1, 1, 4, 4), 7, np.uint8, order="F") if kind == "F" else np.full((1, 1, 4, 4), 7, kind)
        assert ask(server, body=to_npy(array), **binary)[0] == 200
    assert refusal(server, b"<x/>", Content_Type="text/xml")[0] == 415
    client = server.client()
    for wrong in (np.zeros((2, 3)), np.full((1, 4, 4), 0.5), np.array(["a"]), np.full((1, 4, 4), 300), [[1], [2, 3]]):
        with pytest.raises(lab.SpecError, match="samples"):
            client(wrong)


def test_a_body_that_is_too_large_is_refused_as_soon_as_it_is_known(server):
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", "/predict")
    connection.putheader("Authorization", f"Bearer {server.token}")
    connection.putheader("Content-Length", str(LARGEST + 1))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413 and "64 MiB" in json.loads(answer.read())["error"]
    connection.close()


def test_other_addresses_and_methods_are_told_where_to_look(server):
    for method, route, status in (("GET", "/nowhere", 404), ("GET", "/predict", 405)):
        found, told, _ = ask(server, method, route)
        assert found == status and "/docs" in json.loads(told)["error"]


def test_openapi_tells_the_shape_and_the_page_needs_no_network(server):
    status, told, _ = ask(server, "GET", "/openapi.json", token="")
    predict = json.loads(told)["paths"]["/predict"]["post"]
    schema = predict["requestBody"]["content"]["application/json"]["schema"]["properties"]["samples"]
    sizes, item = [], schema["items"]
    while item["type"] == "array":
        sizes, item = [*sizes, item["maxItems"]], item["items"]
    assert status == 200 and sizes == [1, 4, 4] and item == {"type": "integer", "minimum": 0, "maximum": 255}
    assert {"200", "401", "422"} <= set(predict["responses"]) and predict["security"]
    status, page, headers = ask(server, "GET", "/docs", token="")
    assert status == 200 and b"https://" not in page and "default-src 'none'" in headers["Content-Security-Policy"]
    assert ask(server, "GET", "/", token="")[0] == 307


def test_health_is_open(server):
    status, told, _ = ask(server, "GET", "/health", token="")
    assert status == 200 and json.loads(told)["status"] == "ok"


def test_it_listens_on_this_machine_alone(server):
    (connection,) = [c for c in psutil.Process(server.pid).net_connections("tcp") if c.status == psutil.CONN_LISTEN]
    assert connection.laddr.ip == "127.0.0.1"
    assert server.token not in " ".join(psutil.Process(server.pid).cmdline())


def test_requests_at_hand_are_answered_before_it_ends(path, samples):
    with lab.serve(path, wait=1.0) as server:
        server.wait()
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(server.client(), samples)
            until(lambda: psutil.Process(server.pid).net_connections("tcp")[1:])
            server.stop()
            assert answer.result().shape == (5, 3)


PARENT = """
import sys, time
import lepton_lab as lab
server = lab.serve(sys.argv[1], detach=sys.argv[2] == "detach").wait()
print(server.pid, server.url, server.token, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", ["with", "detach"])
def test_it_ends_with_the_process_that_started_it_unless_detached(path, samples, how):
    arguments = [sys.executable, "-c", PARENT, str(path), how]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        pid, url, token = parent.stdout.readline().split()
        server = psutil.Process(int(pid))
        parent.kill()
    if how == "detach":
        assert lab.Client(url, token)(samples).shape == (5, 3)
        server.terminate()
    until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)


def test_what_can_t_be_served_is_refused_at_once(path, tmp_path, monkeypatch):
    torn = tmp_path / "torn.lepton"
    torn.write_bytes(path.read_bytes()[:-200])
    wrongs = {torn: "truncated or changed", tmp_path / "none": "no such file", 3: "must be an artifact"}
    for wrong, said in wrongs.items():
        with pytest.raises(lab.LabError, match=said):
            lab.serve(wrong)
    for values in ({"port": 70_000}, {"batch": 0}, {"wait": -1}, {"token": "a b"}, {"threads": -1}):
        with pytest.raises(lab.SpecError, match=next(iter(values))):
            lab.serve(path, **values)
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(lab.LabError, match="can't be listened on"):
        lab.serve(path, port=taken.getsockname()[1])
    for wrong in ({"port": "8000"}, {"batch": 2.5}, {"threads": True}, {"wait": None}):
        with pytest.raises(lab.SpecError, match=f"{next(iter(wrong))}=.*must be a"):
            lab.serve(path, **wrong)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(lab.LabError, match=r"pip install 'lepton-lab\[deploy\]'"):
        lab.serve(path)


def test_what_the_process_can_t_load_is_said_when_one_waits(tmp_path):
    file = tmp_path / "later.lepton"
    artifacts.write(file, nn.Linear(2, 1), lab.About("line", (2,)), runtime="torch")
    with lab.serve(file) as server:
        file.unlink()  # before it came to read it
        with pytest.raises(lab.LabError, match="no such file"):
            server.wait()


def test_urls_and_tokens_that_are_none_are_refused():
    for url in ("127.0.0.1:80", "ftp://x", "http://", "http://x:port"):
        with pytest.raises(lab.SpecError, match="must be the address"):
            lab.Client(url)
    with pytest.raises(lab.SpecError, match="token"):
        lab.Client("http://x", "a\nb")
    with pytest.raises(lab.SpecError, match="timeout"):
        lab.Client("http://x", timeout=0)


def test_the_command_serves_in_the_foreground(path, samples):
    command = [sys.executable, "-m", "lepton_lab", "serve", str(path)]
    environment = {**os.environ, "LEPTON_LAB_TOKEN": "mine", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        url = next(word for word in process.stdout.readline().split() if word.startswith("http"))
        assert "LEPTON_LAB_TOKEN" in process.stdout.readline()
        assert lab.Client(url, "mine")(samples).shape == (5, 3)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    refused = subprocess.run([*command[:-1], "none.lepton"], capture_output=True, text=True)
    assert refused.returncode == 2 and "no such file" in refused.stderr and "Traceback" not in refused.stderr


def test_one_that_fails_does_not_fail_the_others():
    def compute(batch):
        if (batch < 0).any():
            raise ValueError("negative")
        return batch * 2

    async def all_at_once():
        batcher = Batcher(compute, most=8, wait=0.05)
        task = asyncio.create_task(batcher.run())
        rows = [np.full((1, 1), value) for value in (1, 2, -1, 4)]
        answers = await asyncio.gather(*map(batcher, rows), return_exceptions=True)
        task.cancel()
        return answers, batcher.requests

    answers, requests = asyncio.run(all_at_once())
    assert [getattr(answer, "item", lambda a=answer: str(a))() for answer in answers] == [2, 4, "negative", 8]
    assert requests == 4


def test_one_that_gives_too_few_scores_fails_and_the_server_goes_on():
    async def twice():
        batcher = Batcher(lambda batch: batch[:1])
        task = asyncio.create_task(batcher.run())
        answers = [await asyncio.gather(batcher(np.zeros((n, 1))), return_exceptions=True) for n in (2, 1)]
        task.cancel()
        return answers

    (refused,), (answer,) = asyncio.run(twice())
    assert "1 scores for 2 samples" in str(refused) and answer.shape == (1, 1)


def test_a_request_does_not_change_the_answer_of_another(tmp_path):
    torch.manual_seed(0)
    file, about = tmp_path / "dynamic.lepton", lab.About("net", (8,), labels=LABELS)
    artifacts.write(file, nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)), about, "int8_dynamic")
    x = np.random.default_rng(0).standard_normal((8, 1, 8)).astype(np.float32)
    alone = [lab.load(file)(one) for one in x]
    with lab.serve(file, wait=0.05) as server:
        client = server.wait().client()
        with ThreadPoolExecutor(16) as pool:
            loud = [pool.submit(client, np.full((1, 8), 1e6, np.float32)) for _ in x]
            answers = list(pool.map(client, x))
        assert all(one.result().shape == (1, 3) for one in loud) and client.health()["calls"] == 16
    np.testing.assert_allclose(answers, alone, rtol=1e-6)


def test_what_can_t_wait_is_told_to_come_again():
    async def flood():
        batcher = Batcher(lambda batch: batch)  # which nobody runs
        waiting = [asyncio.create_task(batcher(np.zeros((1, 1)))) for _ in range(MOST_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(Full):
            await batcher(np.zeros((1, 1)))
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(flood())


def test_a_fresh_program_serves_without_the_model_s_code(path, tmp_path, samples, artifact):
    (tmp_path / "program.py").write_text(
        textwrap.dedent(f"""
        import sys
        import numpy as np
        import lepton_lab as lab
        with lab.serve({str(path)!r}) as server:
            print(server.client().predict(np.array({samples.tolist()}, np.uint8)))
        """)
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(lab.__file__).parents[1])}
    program = [sys.executable, str(tmp_path / "program.py")]
    done = subprocess.run(program, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(artifact.predict(samples))
