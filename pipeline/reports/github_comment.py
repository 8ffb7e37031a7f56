"""``hydrogate report --post FILE``: the report as one comment on a GitHub pull request, updated in place.

The report comes from a run that executes the pull request's own code, so nothing in it is trusted: not its size, its
links, its HTML or its numbers. The pull request is identified from GitHub's event only.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from hydrogate.checks.errors import BadParams
from hydrogate.checks.render.ci.pull_request import MARKER

if TYPE_CHECKING:
    from requests import PreparedRequest, Session

# Source: GitHub's limit for the body of a comment, in characters.
LIMIT = 65_536
_PAGE = 100
_TIMEOUT = 30.0  # seconds
_REMEDIES = {
    401: "the token is invalid or has expired",
    403: (
        "the job needs `permissions: pull-requests: write`; a run for a pull request from a fork never has it, "
        "so post from a workflow_run workflow (docs/ci.md)"
    ),
    404: "the token has no access to this repository, or the pull request does not exist",
}


class CommentRefused(RuntimeError):
    """Error: GitHub rejected the comment. The message gives its answer and a remedy."""


class GitHub(NamedTuple):
    """A repository on GitHub, or on a server with the same API.

    Parameters
    ----------
    session : requests.Session
        Session that sends the token.
    api : str
        URL of the API, without a trailing slash.
    repository : str
        ``owner/name``.
    """

    session: "Session"
    api: str
    repository: str

    def ask(self, method: str, path: str, **content: Any) -> Any:
        """Send a request to ``path`` below the repository and return the JSON of the answer.

        Raises
        ------
        CommentRefused
            The status is not success, or the answer is not JSON.
        """
        url = f"{self.api}/repos/{self.repository}/{path}"
        answer = self.session.request(method, url, timeout=_TIMEOUT, allow_redirects=False, **content)
        if not 200 <= answer.status_code < 300:
            remedy = _REMEDIES.get(answer.status_code, "")
            if answer.status_code >= 500:
                remedy = "server error at GitHub: run the job again"
            said = " ".join(answer.text[:300].split())
            raise CommentRefused(f"{method} {url}: GitHub answered {answer.status_code}: {said}. {remedy}".rstrip())
        try:
            return answer.json()
        except ValueError:
            raise CommentRefused(f"{method} {url}: the answer is not JSON: check GITHUB_API_URL") from None


def post(path: Path, environment: Mapping[str, str]) -> str:
    """Post the report in ``path`` as the pull request's comment, replacing an earlier one; return a message.

    Parameters
    ----------
    path : Path
        Markdown as ``hydrogate report --output`` writes it.
    environment : mapping of str to str
        ``GITHUB_API_URL``, ``GITHUB_TOKEN``, ``GITHUB_REPOSITORY``, ``GITHUB_EVENT_PATH``: set by GitHub Actions; the
        token is set by the workflow.

    Raises
    ------
    BadParams
        A variable is missing, the event has no pull request, or the file is not a report.
    CommentRefused
        GitHub rejects the comment.
    """
    body = _defanged(_read(path))
    github = _connect(environment)
    event = _event(environment)
    try:
        numbers = _pull_requests(github, event)
        done = [_post(github, number, body) for number in numbers]
    except CommentRefused as refusal:
        raise CommentRefused(str(refusal).replace(environment["GITHUB_TOKEN"], "***")) from None
    return "\n".join(done) or "no open pull request has this run's commit as its head: nothing posted"


def _read(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        raise BadParams(f"--post {path}: no such file (or a link, which is not followed)")
    if path.stat().st_size > 4 * LIMIT:
        raise BadParams(f"--post {path}: {path.stat().st_size} bytes, a comment has at most {LIMIT} characters")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadParams(f"--post {path}: not UTF-8 text: {error}") from error
    if not text.startswith(f"{MARKER}\n"):
        raise BadParams(f"--post {path}: not a hydrogate report: it does not begin with {MARKER}")
    return text


def _defanged(text: str) -> str:
    """Return ``text`` without mentions, links and HTML except foldable sections; hydrogate's own text is unchanged.

    Raises
    ------
    BadParams
        The text is too long for a comment.
    """
    text = text.removeprefix(MARKER).replace("\r", "")
    text = "".join(char if char.isprintable() or char in "\n\u200b" else "\ufffd" for char in text)
    text = re.sub(r"<(?!(?:details(?: open)?|/details|/?summary)>|https://[\w./:-]+/actions/runs/\d+>)", "&lt;", text)
    text = re.sub(r"([@#])(?=\w)|(\]|!)(?=[(\[])", lambda found: f"{found[0]}\u200b", text)
    if len(text) + len(MARKER) > LIMIT:
        raise BadParams(f"the report has {len(text)} characters, a comment at most {LIMIT}")
    return f"{MARKER}{text}"


def _connect(environment: Mapping[str, str]) -> GitHub:
    from requests import Session
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    missing = [name for name in ("GITHUB_TOKEN", "GITHUB_REPOSITORY", "GITHUB_EVENT_PATH") if not environment.get(name)]
    if missing:
        raise BadParams(f"--post: {', '.join(missing)} not set; this option is for GitHub Actions (docs/ci.md)")
    repository = environment["GITHUB_REPOSITORY"]
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise BadParams(f"--post: GITHUB_REPOSITORY is {repository!r}, expected owner/name")
    api = environment.get("GITHUB_API_URL", "https://api.github.com").rstrip("/")
    parts = urlsplit(api)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise BadParams(f"--post: GITHUB_API_URL is {api}, expected https: the token must not be sent unencrypted")

    def bearer(request: "PreparedRequest") -> "PreparedRequest":
        request.headers["Authorization"] = f"Bearer {environment['GITHUB_TOKEN']}"
        return request

    session = Session()
    # Not as a header of the session: a .netrc file would override it.
    session.auth = bearer
    session.headers.update({"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"})
    # No retry of POST: the comment may already exist.
    retry = Retry(
        total=2,
        backoff_factor=0.2,
        status_forcelist=(502, 503, 504),
        allowed_methods=("GET", "PATCH"),
        raise_on_status=False,
    )
    for scheme in ("https://", "http://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry))
    return GitHub(session, api, repository)


def _event(environment: Mapping[str, str]) -> Mapping[str, Any]:
    path = Path(environment["GITHUB_EVENT_PATH"])
    try:
        event = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadParams(f"--post: the event in {path} cannot be read: {error}") from error
    if not isinstance(event, Mapping):
        raise BadParams(f"--post: the event in {path} is not a mapping")
    return event


def _pull_requests(github: GitHub, event: Mapping[str, Any]) -> list[int]:
    """Return the open pull requests of the event; for a finished run, those whose head is still its commit."""
    try:
        if "pull_request" in event:
            return [int(event["pull_request"]["number"])]
        run = event["workflow_run"]
        sha, owner = run["head_sha"], (run["head_repository"] or {}).get("owner", {}).get("login", "")
        head = f"{owner}:{run['head_branch']}"
    except (KeyError, TypeError, ValueError) as error:
        raise BadParams("--post: the event is neither pull_request nor workflow_run") from error
    found = github.ask("GET", "pulls", params={"state": "open", "head": head, "per_page": _PAGE})
    return [int(pull["number"]) for pull in found if pull["head"]["sha"] == sha]


def _post(github: GitHub, number: int, body: str) -> str:
    known = _own_comment(github, number)
    if known is None:
        answer = github.ask("POST", f"issues/{number}/comments", json={"body": body})
        return f"commented on pull request {number}: {answer.get('html_url', '')}"
    answer = github.ask("PATCH", f"issues/comments/{known}", json={"body": body})
    return f"updated the comment on pull request {number}: {answer.get('html_url', '')}"


def _own_comment(github: GitHub, number: int) -> int | None:
    """Return the comment of an earlier run; ignore comments by people, even with the marker."""
    page = 1
    while True:
        comments = github.ask("GET", f"issues/{number}/comments", params={"per_page": _PAGE, "page": page})
        for comment in comments:
            by_bot = (comment.get("user") or {}).get("type") == "Bot"
            if by_bot and str(comment.get("body", "")).startswith(MARKER):
                return int(comment["id"])
        if len(comments) < _PAGE:
            return None
        page += 1
