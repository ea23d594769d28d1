"""The task graph of a run page fits a desktop's page and a phone's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import requests

from local_workspace.routes.task_graph import BOX_HEIGHT, BOX_WIDTH, NARROW, WIDE, task_graph
from tests.deploy.conftest import Server
from tests.deploy.test_runs import after

CHAIN = {str(number): [str(number - 1)] if number else [] for number in range(6)}
FORKS = {"a": [], "b": [], "c": ["a", "b"], "d": ["a"], "e": ["c", "d"], "f": ["e", "a"], "g": ["f"], "h": ["g", "e"]}
# Inside the sections: a page of 1,200 pixels, whose main column is 72rem wide, and one of 390.
INSIDE = {WIDE: 1152 - 48 - 42, NARROW: 390 - 20 - 42}


@pytest.mark.parametrize("needs", [CHAIN, FORKS, {"only": []}, {}], ids=["chain", "forks", "one", "none"])
@pytest.mark.parametrize("boxes_in_line", [WIDE, NARROW])
def test_nothing_runs_out_of_the_page_or_into_another_box(needs: dict[str, list[str]], boxes_in_line: int) -> None:
    drawing = task_graph(needs, boxes_in_line)
    assert drawing["width"] <= INSIDE[boxes_in_line]
    places = list(drawing["places"].values())
    assert len(places) == len(needs)
    for x, y in places:
        assert 0 <= x <= drawing["width"] - BOX_WIDTH
        assert 0 <= y <= drawing["height"] - BOX_HEIGHT
    for index, (x, y) in enumerate(places):
        assert all(abs(x - x2) > BOX_WIDTH or abs(y - y2) > BOX_HEIGHT for x2, y2 in places[index + 1 :])
    numbers = [[int(number) for number in re.findall(r"\d+", edge)] for edge in drawing["edges"]]
    assert len(numbers) == sum(map(len, needs.values()))
    for curve in numbers:
        assert all(0 <= x <= drawing["width"] for x in curve[::2])
        assert all(0 <= y <= drawing["height"] for y in curve[1::2])


def test_a_page_has_the_graph_for_both_and_says_that_a_run_was_repaired(server: Server) -> None:
    keys = ["first", *(f"task-{number}" for number in range(4)), "a-task-with-a-long-name-indeed"]
    chain = [{"task_key": key, **(after(keys[index - 1]) if index else {})} for index, key in enumerate(keys)]
    run_id = server.run("dev", server.tiny_job("dev", *chain, job_name="six"))
    server.wait("dev", run_id)
    server.api("dev", "POST", "jobs/runs/repair", run_id=run_id, rerun_tasks=[keys[-1]])
    server.wait("dev", run_id)
    page = requests.get(
        f"{server.url}/dev/runs/{run_id}", headers={"Cookie": f"workspace_token={server.token}"}, timeout=9
    ).text
    assert "repaired once" in page
    for size, boxes_in_line in (("wide", WIDE), ("narrow", NARROW)):
        (width,) = re.findall(rf'<svg class="{size}" width="(\d+)"', page)
        assert int(width) <= INSIDE[boxes_in_line]
    assert page.count("a-task-with-a-long-name…") == 2


def test_a_run_page_links_the_pages_that_its_tasks_logged(server: Server, tmp_path: Path) -> None:
    made = server.api("dev", "POST", "../2.0/mlflow/experiments/create", name="/pages")
    run = server.api("dev", "POST", "../2.0/mlflow/runs/create", experiment_id=made["experiment_id"])["run"]["info"]
    folder = f"/api/2.0/fs/files/WorkspaceInternal/Mlflow/Artifacts/{made['experiment_id']}/Runs/{run['run_id']}"
    report = tmp_path / "report.html"
    report.write_text("<h1>The report</h1>")
    for name in ("report.html", "notes.txt"):
        assert server.upload("dev", "PUT", f"{folder}/artifacts/{name}", report) == 204
    job = server.tiny_job(
        "dev",
        {
            "task_key": "one",
            "python_wheel_task": {
                "package_name": "tiny", "entry_point": "ok", "parameters": [f"report.html of run {run['run_id']}"],
            },
        },
    )  # fmt: skip
    run_id = server.run("dev", job)
    server.wait("dev", run_id)

    def page(path: str) -> requests.Response:
        return requests.get(server.url + path, headers={"Cookie": f"workspace_token={server.token}"}, timeout=9)

    (link,) = re.findall(r'href="(/dev/artifacts/[^"]+)"', page(f"/dev/runs/{run_id}").text)
    shown = page(link)
    assert (shown.text, shown.headers["Content-Security-Policy"]) == ("<h1>The report</h1>", "sandbox")
    assert shown.headers["Content-Type"].startswith("text/html")
    for path in (link.replace("report.html", "notes.txt"), link.replace(run["run_id"], "0" * 32), f"{link}x"):
        assert page(path).status_code == 404
    assert requests.get(server.url + link, timeout=9).status_code == 403
    assert page("/ml/experiments/1").url.endswith("/dev/mlflow/#/experiments/1")
