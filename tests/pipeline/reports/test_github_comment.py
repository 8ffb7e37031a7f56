"""Sticky comment, tested with a local stub of GitHub's API."""

import json
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from typer.testing import CliRunner

from hydrogate.checks.diff.loosening import Change, Effect
from hydrogate.checks.errors import BadParams
from hydrogate.checks.gates.milestones import Decision
from hydrogate.checks.render.ci.pull_request import MARKER, Comparison, State, pull_request_markdown
from hydrogate.pipeline.cli import app
from hydrogate.pipeline.reports.github_comment import LIMIT, CommentRefused, post

TOKEN = "ghs_thisisthetoken0123456789"
REPORT = (
    f"{MARKER}\n## Next milestone: **m4** (on track)\n\n<details open><summary>Gates</summary>\n\nx\n\n</details>\n"
)
BOT, PERSON = {"login": "github-actions[bot]", "type": "Bot"}, {"login": "mallory", "type": "User"}


class Stub:
    """Stub of GitHub: comments and pull requests of ann/hydrogate."""

    def __init__(self) -> None:
        self.comments: list[dict[str, Any]] = []
        self.pulls: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str]] = []
        self.tokens: set[str | None] = set()
        self.failures: list[tuple[int, str]] = []

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if self.failures:
            return self.failures.pop(0)
        if method == "GET" and path == "/repos/ann/hydrogate/pulls":
            return 200, [pull for pull in self.pulls if pull["head"]["label"] == query["head"][0]]
        if method == "GET" and path == "/repos/ann/hydrogate/issues/7/comments":
            start = (int(query["page"][0]) - 1) * int(query["per_page"][0])
            return 200, self.comments[start : start + int(query["per_page"][0])]
        if method == "POST" and path == "/repos/ann/hydrogate/issues/7/comments":
            self.comments.append({"id": 1000 + len(self.comments), "user": BOT, **body})
            return 201, {"html_url": "https://github.com/ann/hydrogate/pull/7#new"}
        if method == "PATCH" and path.startswith("/repos/ann/hydrogate/issues/comments/"):
            (comment,) = (one for one in self.comments if str(one["id"]) == path.rsplit("/", 1)[1])
            comment.update(body)
            return 200, {"html_url": "https://github.com/ann/hydrogate/pull/7#old"}
        return 404, {"message": "Not Found"}


@pytest.fixture
def stub() -> Iterator[Stub]:
    github = Stub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            parts = urlsplit(self.path)
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            github.asked.append((self.command, parts.path))
            github.tokens.add(self.headers.get("Authorization"))
            status, content = github.answer(self.command, parts.path, parse_qs(parts.query), body)
            sent = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(sent)))
            if 300 <= status < 400:
                self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PATCH = handle_any

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        github.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield github
        server.shutdown()
        thread.join()


HEAD = {"head_sha": "abc", "head_branch": "work", "head_repository": {"owner": {"login": "bob"}}, "pull_requests": []}
RUN = {"workflow_run": HEAD}


@pytest.fixture
def environment(stub: Stub, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "event.json").write_text(json.dumps({"pull_request": {"number": 7}}))
    return {
        "GITHUB_API_URL": stub.url,  # type: ignore[attr-defined]
        "GITHUB_TOKEN": TOKEN,
        "GITHUB_REPOSITORY": "ann/hydrogate",
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
    }


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "report.md"
    path.write_text(REPORT)
    return path


def test_the_first_report_makes_a_comment_and_the_next_one_updates_it(
    stub: Stub, environment: dict[str, str], report: Path
) -> None:
    stub.comments = [{"id": 1, "user": PERSON, "body": "looks good"}]
    assert post(report, environment).startswith("commented on pull request 7: https://")
    assert stub.comments[1]["body"] == REPORT
    report.write_text(REPORT.replace("m4", "pivot"))
    assert post(report, environment).startswith("updated the comment on pull request 7: https://")
    assert len(stub.comments) == 2
    assert "pivot" in stub.comments[1]["body"]
    assert stub.tokens == {f"Bearer {TOKEN}"}


def test_the_comment_is_found_on_a_later_page(stub: Stub, environment: dict[str, str], report: Path) -> None:
    stub.comments = [{"id": number, "user": PERSON, "body": "talk"} for number in range(250)]
    stub.comments[230] = {"id": 230, "user": BOT, "body": f"{MARKER}\nold"}
    assert post(report, environment).startswith("updated")
    assert stub.comments[230]["body"] == REPORT
    assert [method for method, _ in stub.asked] == ["GET", "GET", "GET", "PATCH"]


@pytest.mark.parametrize("count", [0, 99, 100, 200])
def test_without_a_comment_of_ours_every_page_is_read_and_one_is_made(
    stub: Stub, environment: dict[str, str], report: Path, count: int
) -> None:
    stub.comments = [{"id": number, "user": PERSON, "body": "talk"} for number in range(count)]
    assert post(report, environment).startswith("commented")
    assert stub.asked.count(("GET", "/repos/ann/hydrogate/issues/7/comments")) == count // 100 + 1


@pytest.mark.parametrize(
    "other",
    [
        {"id": 5, "user": PERSON, "body": f"{MARKER}\nmine"},
        {"id": 5, "user": None, "body": f"{MARKER}\nof a deleted account"},
        {"id": 5, "user": BOT, "body": f"> {MARKER}\nquoted"},
        {"id": 5, "user": BOT, "body": None},
    ],
)
def test_what_somebody_else_wrote_is_left_alone(
    stub: Stub, environment: dict[str, str], report: Path, other: dict[str, Any]
) -> None:
    stub.comments = [dict(other)]
    assert post(report, environment).startswith("commented")
    assert stub.comments[0] == other


def test_after_a_run_of_a_fork_the_pull_request_is_found_by_branch_and_commit(
    stub: Stub, environment: dict[str, str], report: Path
) -> None:
    Path(environment["GITHUB_EVENT_PATH"]).write_text(json.dumps(RUN))
    stub.pulls = [
        {"number": 6, "head": {"label": "bob:other", "sha": "abc"}},
        {"number": 7, "head": {"label": "bob:work", "sha": "abc"}},
    ]
    assert post(report, environment).startswith("commented on pull request 7")


@pytest.mark.parametrize(("label", "sha"), [("bob:work", "newer"), ("eve:work", "abc")])
def test_a_run_of_a_commit_that_no_pull_request_stands_at_posts_nothing(
    stub: Stub, environment: dict[str, str], report: Path, label: str, sha: str
) -> None:
    Path(environment["GITHUB_EVENT_PATH"]).write_text(json.dumps(RUN))
    stub.pulls = [{"number": 7, "head": {"label": label, "sha": sha}}]
    assert post(report, environment).endswith("nothing posted")
    assert stub.comments == []


@pytest.mark.parametrize(
    ("status", "says"),
    [
        (401, "the token is invalid or has expired"),
        (403, "permissions: pull-requests: write"),
        (404, "the pull request does not exist"),
        (422, "Validation Failed"),
        (301, "answered 301"),
        (500, "server error at GitHub: run the job again"),
    ],
)
def test_what_github_refuses_is_told_with_what_helps(
    stub: Stub, environment: dict[str, str], report: Path, status: int, says: str
) -> None:
    stub.failures = [(status, {"message": f"Validation Failed for Bearer {TOKEN}"})]
    with pytest.raises(CommentRefused) as error:
        post(report, environment)
    assert says in str(error.value) and str(status) in str(error.value)
    assert TOKEN not in str(error.value)
    assert len(stub.asked) == 1


def test_a_passing_fault_is_tried_again_and_a_lasting_one_is_told(
    stub: Stub, environment: dict[str, str], report: Path
) -> None:
    stub.failures = [(502, {}), (503, {})]
    assert post(report, environment).startswith("commented")
    stub.failures = [(503, {"message": "down"})] * 3
    with pytest.raises(CommentRefused, match=r"503.*down.*run the job again"):
        post(report, environment)


def test_a_comment_that_may_have_been_made_is_not_made_twice(
    stub: Stub, environment: dict[str, str], report: Path
) -> None:
    usual = stub.answer
    stub.answer = lambda method, *rest: (  # type: ignore[method-assign]
        (502, {}) if method == "POST" else usual(method, *rest)
    )
    with pytest.raises(CommentRefused, match="502"):
        post(report, environment)
    assert [method for method, _ in stub.asked] == ["GET", "POST"]


def test_an_answer_that_is_no_json(stub: Stub, environment: dict[str, str], report: Path) -> None:
    stub.failures = [(200, "<html>a proxy's page</html>")]
    with pytest.raises(CommentRefused, match="not JSON"):
        post(report, environment)


HOSTILE = (
    "@octocat, fixes #1, <img src=https://evil.example/x.png> <a href=https://evil.example>here</a> "
    "[here](https://evil.example) ![x](https://evil.example/x.png) [x][y] <https://evil.example> <!-- x --> \x1b[31m"
)


def test_an_untrusted_report_notifies_nobody_and_links_nowhere(
    stub: Stub, environment: dict[str, str], report: Path
) -> None:
    link = "<https://github.com/ann/hydrogate/actions/runs/77>"
    report.write_text(f"{REPORT}{HOSTILE}\n{link}\n")
    post(report, environment)
    body = stub.comments[0]["body"]
    assert body.startswith(REPORT)
    assert body.endswith(f"{link}\n")
    rest = body.removeprefix(REPORT).removesuffix(f"{link}\n")
    assert not re.search(r"@\w|#\w|<|\]\(|\]\[|!\[|\x1b", rest)
    assert "octocat" in rest and "evil.example" in rest


def test_a_report_of_the_longest_kind_is_taken_and_a_longer_one_refused(
    stub: Stub, environment: dict[str, str], report: Path
) -> None:
    report.write_text(REPORT + "x" * (LIMIT - len(REPORT)))
    post(report, environment)
    assert len(stub.comments[0]["body"]) == LIMIT
    for size in (LIMIT + 1, 5 * LIMIT):
        report.write_text(REPORT + "x" * (size - len(REPORT)))
        with pytest.raises(BadParams, match=f"a comment .*{LIMIT}"):
            post(report, environment)


def no_file(path: Path) -> None:
    path.unlink()


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link(path: Path) -> None:
    path.rename(path.with_name("secret.md"))
    path.symlink_to(path.with_name("secret.md"))


def no_text(path: Path) -> None:
    path.write_bytes(MARKER.encode() + b"\n\xff\xfe")


def no_report(path: Path) -> None:
    path.write_text("# buy now")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (no_file, "no such file"),
        (a_folder, "no such file"),
        (a_link, "a link, which is not followed"),
        (no_text, "not UTF-8"),
        (no_report, "does not begin with"),
    ],
)
def test_a_file_that_is_no_report_is_not_posted(
    stub: Stub, environment: dict[str, str], report: Path, spoil: Callable[[Path], None], says: str
) -> None:
    spoil(report)
    with pytest.raises(BadParams, match=says):
        post(report, environment)
    assert stub.asked == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"GITHUB_TOKEN": ""}, "GITHUB_TOKEN not set"),
        ({"GITHUB_REPOSITORY": "ann/hydrogate/../x"}, "expected owner/name"),
        ({"GITHUB_API_URL": "http://api.github.example"}, "must not be sent unencrypted"),
        ({"GITHUB_EVENT_PATH": "/nowhere/event.json"}, "cannot be read"),
    ],
)
def test_an_environment_that_is_not_github_actions(
    stub: Stub, environment: dict[str, str], report: Path, changes: dict[str, str], says: str
) -> None:
    with pytest.raises(BadParams, match=says) as error:
        post(report, environment | changes)
    assert TOKEN not in str(error.value)
    assert stub.asked == []


@pytest.mark.parametrize("event", ["{", "[]", "{}", '{"pull_request": {"number": "x"}}', '{"workflow_run": {}}'])
def test_an_event_of_no_pull_request(stub: Stub, environment: dict[str, str], report: Path, event: str) -> None:
    Path(environment["GITHUB_EVENT_PATH"]).write_text(event)
    with pytest.raises(BadParams, match="event"):
        post(report, environment)
    assert stub.asked == []


def test_the_command(stub: Stub, environment: dict[str, str], report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    result = CliRunner().invoke(app, ["report", "--post", str(report)])
    assert result.exit_code == 0
    assert result.output == "commented on pull request 7: https://github.com/ann/hydrogate/pull/7#new\n"
    both = CliRunner().invoke(app, ["report", "--post", str(report), "--base", "main"])
    assert isinstance(both.exception, BadParams)


def test_a_report_of_our_own_is_posted_as_it_is(stub: Stub, environment: dict[str, str], report: Path) -> None:
    change = Change(Effect.LOOSER, "bound loosened", "contracts.structures.size.max", "1", "@octocat #1 <b> [x](y)")
    decision = Decision("m4_cuda_optimization", 6, "#1 <b> @octocat ](x) ![", "nox -s benchmarks", ())
    link = "https://github.com/ann/hydrogate/actions/runs/77"
    state = State(decision, (), ("train: changed",), ("plots/a.png",), link)
    report.write_text(pull_request_markdown(state, Comparison("main (abc)", (change,), {}, {})), encoding="utf-8")
    post(report, environment)
    assert stub.comments[0]["body"] == report.read_text(encoding="utf-8")
