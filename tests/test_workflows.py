"""The workflow files, and GitLab's in docs/ci.md, against their schemas and against what docs/ci.md promises."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / ".github/workflows").glob("*.yml"))


def read(name: str) -> dict[Any, Any]:
    content: dict[Any, Any] = yaml.safe_load((ROOT / ".github/workflows" / name).read_text(encoding="utf-8"))
    return content


GATES, COMMENT = read("gates.yml"), read("gates-comment.yml")
STEPS = [step for path in FILES for job in read(path.name)["jobs"].values() for step in job["steps"]]


def valid(schema: str, *paths: Path) -> str:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_the_workflows_are_valid() -> None:
    assert valid("github-workflows", *FILES) == ""


def test_the_gitlab_file_of_the_docs_is_valid(tmp_path: Path) -> None:
    text = (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```yaml\n# \.gitlab-ci\.yml\n(.*?)```", text, re.DOTALL)
    (tmp_path / ".gitlab-ci.yml").write_text(snippet)
    assert valid("gitlab-ci", tmp_path / ".gitlab-ci.yml") == ""


def test_the_schema_refuses_what_is_no_workflow(tmp_path: Path) -> None:
    (tmp_path / "bad.yml").write_text("on: push\njobs: {x: {steps: [{runs: make}]}}\n")
    assert valid("github-workflows", tmp_path / "bad.yml")


def test_every_action_is_pinned_by_commit_and_names_its_version() -> None:
    for path in FILES:
        for line in path.read_text(encoding="utf-8").splitlines():
            if "uses:" in line:
                assert re.search(r"uses: [\w.-]+/[\w.-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line), line


def test_what_runs_the_pull_requests_code_may_only_read() -> None:
    assert GATES["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in GATES["jobs"].values())
    # YAML 1.1 reads `on` as true.
    assert set(GATES[True]) == {"pull_request", "push", "workflow_dispatch"}
    assert "secrets." not in (ROOT / ".github/workflows/gates.yml").read_text(encoding="utf-8")


def test_what_may_write_runs_the_default_branch_alone() -> None:
    (job,) = COMMENT["jobs"].values()
    assert set(COMMENT[True]) == {"workflow_run"}
    assert COMMENT[True]["workflow_run"]["workflows"] == [GATES["name"]]
    assert COMMENT["permissions"] == {}
    assert job["permissions"] == {"actions": "read", "contents": "read", "pull-requests": "write"}
    (checkout,) = (step for step in job["steps"] if step.get("uses", "").startswith("actions/checkout@"))
    assert checkout["with"]["ref"] == "${{ github.event.repository.default_branch }}"
    # Installed before anything of the run is on the machine, which then is named once.
    (last,) = (index for index, step in enumerate(job["steps"]) if step.get("uses", "").startswith("actions/download"))
    assert [step.get("run") for step in job["steps"][last + 1 :]] == [
        'hydrogate report --post "$RUNNER_TEMP/untrusted/report.md"'
    ]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.get("uses", step.get("run", ""))[:40])
def test_no_shell_sees_text_that_strangers_chose(step: dict[str, Any]) -> None:
    assert "${{" not in step.get("run", "")
    if step.get("uses", "").startswith("actions/checkout@"):
        assert step["with"]["persist-credentials"] is False


def test_the_comment_is_made_of_what_the_gates_upload() -> None:
    (download,) = (step for step in COMMENT["jobs"]["comment"]["steps"] if "download-artifact" in step.get("uses", ""))
    uploads = [step["with"] for step in GATES["jobs"]["checks"]["steps"] if "upload-artifact" in step.get("uses", "")]
    (markdown,) = (upload for upload in uploads if upload["name"] == download["with"]["name"])
    assert markdown["path"] == "reports/report.md"
    assert all(upload["if-no-files-found"] == "error" for upload in uploads)


def test_the_base_is_there_to_compare_with() -> None:
    (checkout,) = (s for s in GATES["jobs"]["checks"]["steps"] if s.get("uses", "").startswith("actions/checkout@"))
    assert checkout["with"]["fetch-depth"] == 0


def gates_of(results: dict[str, str]) -> int:
    """The exit status of the job to require, given how the others ended."""
    (step,) = GATES["jobs"]["gates"]["steps"]
    needs = json.dumps({name: {"result": result, "outputs": {}} for name, result in results.items()})
    return subprocess.run(["bash", "-c", step["run"]], env=os.environ | {"RESULTS": needs}, check=False).returncode


def test_the_required_job_waits_for_all_others_and_always_runs() -> None:
    job = GATES["jobs"]["gates"]
    assert sorted(job["needs"]) == sorted(set(GATES["jobs"]) - {"gates"})
    assert job["if"] == "${{ always() }}"
    assert job["steps"][0]["env"] == {"RESULTS": "${{ toJSON(needs) }}"}
    assert not any("continue-on-error" in part for part in (*GATES["jobs"].values(), *STEPS))
    assert not any("paths" in (trigger or {}) for trigger in GATES[True].values())


@pytest.mark.parametrize("result", ["failure", "cancelled", "skipped", ""])
def test_a_job_that_did_not_succeed_never_counts_as_passed(result: str) -> None:
    good = dict.fromkeys(GATES["jobs"]["gates"]["needs"], "success")
    assert gates_of(good) == 0
    for name in good:
        assert gates_of(good | {name: result}) != 0
    assert gates_of({}) != 0
