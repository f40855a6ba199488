"""Two processes with half a batch each: the gradient, and the run, of one process with the whole batch."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import test_loss
import tiny
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from retriever.data.ragged import Ragged
from retriever.data.tokenizers import WordTokenizer
from retriever.encoder import Encoder
from retriever.training import parallel
from retriever.training.loss import batch_loss, gather_keys
from retriever.training.memory import Queue
from retriever.training.recipe import Negatives, Objective


def gradient(symmetric, queue, momentum, terms="joint", margin=None, in_batch=True):
    """Gradient with respect to the vectors of this process: a document of each query, and a hard negative.

    With other terms than ``joint`` the hard negative is a second positive.
    """
    rank, world = parallel.rank(), parallel.world()
    size = 6
    second = [[50 + i if terms == "joint" else i % 5, 200 + i] for i in range(size)]
    ids = [[i % 5, 100 + i] for i in range(size)] + second  # 0 and 5 are twins
    whole = test_loss.batch(size, explicit=1, ids=ids, known=[[i % 5, 900 + i, 2 * i % 5] for i in range(size)])
    blank = Ragged.from_rows([[i] for i in range(2 * size)])
    positives = 1 if terms == "joint" else 2
    whole = type(whole)(Ragged.from_rows([[i] for i in range(size)]), blank, positives, whole.known, whole.ids)
    share = whole.share(rank, world)
    queries = test_loss.vectors(size, 0)[share.queries.ids.astype(int)].requires_grad_()
    documents = test_loss.vectors(2 * size, 1)[share.documents.ids.astype(int)].requires_grad_(not momentum)
    memory = None
    if queue:
        memory = Queue(queue, 6, torch.device("cpu"))
        memory.state["vectors"] = memory.state["vectors"].double()
        memory.push(test_loss.vectors(4, 2), torch.tensor([[1, 1], [2, 2], [70, 3], [71, 4]]))
    loss = batch_loss(
        queries,
        documents,
        gather_keys(documents, share),
        share,
        memory,
        None,
        Objective(temperature=0.3, symmetric=symmetric, terms=terms, false_negatives=margin),
        Negatives(queue=queue, in_batch=in_batch),
    )
    loss.backward()
    return {
        "loss": parallel.total(loss.item()),
        "queries": parallel.gather(queries.grad),
        "documents": None if momentum else documents.grad,
        "rows": torch.from_numpy(share.documents.ids.astype(int)),
    }


def launch(arguments, processes, **environment):
    """Run Python in several processes that find each other, as a launcher would start them; what each prints."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    common = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
        "OMP_NUM_THREADS": "1",
        **environment,
    }
    running, pipes = [], {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    for rank in range(processes):
        own = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank)}
        running.append(subprocess.Popen([sys.executable, *arguments], env=own, **pipes, text=True))
    answers, errors = zip(*(process.communicate(timeout=300) for process in running), strict=True)
    assert [process.returncode for process in running] == [0] * processes, "\n".join(errors)
    return answers


@pytest.mark.parametrize(
    ("symmetric", "queue", "momentum", "terms", "margin", "in_batch"),
    [
        (False, 0, False, "joint", None, True),
        (True, 0, False, "joint", None, True),
        (True, 0, False, "joint", 0.1, True),
        (True, 8, True, "joint", None, True),
        (True, 8, False, "joint", None, False),
        (True, 0, False, "sum", None, True),
        (False, 0, False, "all_pairs", None, True),
    ],
)
def test_two_processes_have_the_gradient_of_one_with_the_whole_batch(
    tmp_path, symmetric, queue, momentum, terms, margin, in_batch
):
    arguments = (symmetric, queue, momentum, terms, margin, in_batch)
    one = gradient(*arguments)
    launch([__file__, "gradient", str(tmp_path), json.dumps(arguments)], 2)
    parts = [torch.load(tmp_path / str(rank)) for rank in range(2)]
    assert parts[0]["loss"] == pytest.approx(one["loss"])
    torch.testing.assert_close(parts[0]["queries"], one["queries"])
    if not momentum:
        found = torch.zeros_like(one["documents"])
        for part in parts:
            found[part["rows"]] = part["documents"]
        torch.testing.assert_close(found, one["documents"])
        assert found[6:].abs().sum() > 0  # the hard negatives


@pytest.mark.parametrize("family", ["static", "small"])
@pytest.mark.parametrize("overrides", [{}, {"queue": 64, "momentum": 0.5, "gradient_cache": True, "symmetric": False}])
def test_two_processes_train_the_model_of_one(tmp_path, family, overrides):
    changes = {"queries": 0, "dtype": "float32", **overrides, **({"dropout": 0.0} if family == "small" else {})}
    tiny.run(family, tmp_path / "one", overrides=changes)
    launch(
        [tiny.__file__, family, str(tmp_path / "two"), json.dumps({"overrides": changes})], 2, ACCELERATE_USE_CPU="1"
    )
    one, two = (load_file(next((tmp_path / name).rglob("model.safetensors"))) for name in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, atol=2e-3, rtol=1e-2)
    log, own = (
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()[:-1]]
        for name in ("two", "one")
    )  # without the last line, which tells seconds
    assert [entry["step"] for entry in log] == [entry["step"] for entry in own]
    assert [entry["loss"] for entry in log] == pytest.approx([entry["loss"] for entry in own], rel=1e-3)


def test_two_processes_follow_teachers_as_one_does(tmp_path):
    tokenizer = WordTokenizer.train([document.content for document in tiny.corpus()], min_documents=1)
    Encoder.static(tokenizer, dimension=12).save(tmp_path / "teacher")
    changes = {"queries": 0, "dtype": "float32", "dropout": 0.0, "symmetric": False}
    changes["ranking"] = {"teachers": [str(tmp_path / "teacher")]}
    tiny.run("small", tmp_path / "one", overrides=changes)
    arguments = json.dumps({"overrides": changes})
    launch([tiny.__file__, "small", str(tmp_path / "two"), arguments], 2, ACCELERATE_USE_CPU="1")
    losses = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()[:-1]]
        for name in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("seeds", [(), ("--seeds", "2")])
def test_one_of_two_processes_answers(tmp_path, seeds):
    (tmp_path / "notes.txt").write_text("\n".join(document.text for document in tiny.corpus()))
    settings = [f"{key}={value}" for key, value in (tiny.STATIC[1] | {"steps": 2, "queries": 0}).items()]
    where = ["--data", str(tmp_path / "notes.txt"), "--output", str(tmp_path / "m"), "--device", "cpu", "--json"]
    command = ["-m", "retriever", "train", "contriever-cpu", *settings, *where, *seeds]
    first, second = launch(command, 2, ACCELERATE_USE_CPU="1")
    assert "metric" in json.loads(first) and second == ""


def test_processes_part_before_python_ends(tmp_path):
    """What runs when Python ends runs in the order opposite to that in which it was registered."""
    program = (
        "import atexit, sys, torch.distributed as dist\n"
        "from pathlib import Path\n"
        "from retriever.training import parallel\n"
        "def tell():\n"
        "    Path(sys.argv[1], rank).write_text(str(dist.is_initialized()))\n"
        "atexit.register(tell)\n"
        "parallel.meet('cpu')\n"
        "assert parallel.world() == 2\n"
        "rank = str(parallel.rank())\n"
    )
    launch(["-c", program, str(tmp_path)], 2, ACCELERATE_USE_CPU="1")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"0": "False", "1": "False"}


@pytest.mark.parametrize(("backend", "device"), [("gloo", "cpu"), ("nccl", "cuda")])
def test_numbers_are_added_on_the_device_that_the_backend_takes(monkeypatch, backend, device):
    asked, tensor = [], torch.tensor
    monkeypatch.setattr(parallel, "world", lambda: 2)
    monkeypatch.setattr(parallel.dist, "get_backend", lambda: backend)
    monkeypatch.setattr(parallel.dist, "all_reduce", lambda shared: shared.mul_(2))
    monkeypatch.setattr(torch, "tensor", lambda *value, device, **how: asked.append(device) or tensor(*value, **how))
    assert parallel.total(2.5) == 5.0
    assert asked == [device]


def test_one_python_trains_on_one_device_after_the_other():
    program = (
        "import torch\n"
        "from retriever.training import parallel\n"
        "torch.cuda.is_available = lambda: True\n"
        "parallel.meet(None)\n"
        "parallel.meet('cpu')\n"
        "assert parallel.world() == 1\n"
    )
    environment = os.environ | {"ACCELERATE_TORCH_DEVICE": "cuda:0"}  # a GPU as far as accelerate knows
    subprocess.run([sys.executable, "-c", program], check=True, timeout=100, env=environment)


def test_alone_nothing_is_gathered():
    tensor = torch.ones(3, 2)
    assert parallel.gather(tensor) is tensor and parallel.total(2.5) == 2.5
    assert (parallel.rank(), parallel.world()) == (0, 1)


if __name__ == "__main__":
    dist.init_process_group("gloo")
    _, what, folder, settings = sys.argv
    torch.save(gradient(*json.loads(settings)), Path(folder) / str(parallel.rank()))
    dist.destroy_process_group()
