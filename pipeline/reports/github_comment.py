"""The report as one comment on a GitHub pull request, updated in place: ``hydrogate report --post FILE``.

What is posted was written by a run that executes the pull request's own code, so nothing in it is trusted: not its
size, its links, its HTML, nor any number in it. The pull request is found from GitHub's event alone.
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

# Source: GitHub's limit of a comment's body, in characters.
LIMIT = 65_536
_PAGE = 100
_TIMEOUT = 30.0  # seconds
_REMEDIES = {
    401: "the token is not valid (any longer)",
    403: (
        "the job needs `permissions: pull-requests: write`; a run for a pull request from a fork never has it, "
        "so post from a workflow_run workflow (docs/ci.md)"
    ),
    404: "the token may not see this repository, or the pull request is gone",
}


class CommentRefused(RuntimeError):
    """GitHub did not take the comment; the message says what it answered and what helps."""


class GitHub(NamedTuple):
    """One repository on GitHub, or on a server with its interface.

    Parameters
    ----------
    session : requests.Session
        Carries the token.
    api : str
        Without a slash at its end.
    repository : str
        ``owner/name``.
    """

    session: "Session"
    api: str
    repository: str

    def ask(self, method: str, path: str, **content: Any) -> Any:
        """The JSON that GitHub answers to ``path`` below the repository.

        Raises
        ------
        CommentRefused
            Anything but success.
        """
        url = f"{self.api}/repos/{self.repository}/{path}"
        answer = self.session.request(method, url, timeout=_TIMEOUT, allow_redirects=False, **content)
        if not 200 <= answer.status_code < 300:
            remedy = _REMEDIES.get(answer.status_code, "")
            if answer.status_code >= 500:
                remedy = "the fault is GitHub's: run the job again"
            said = " ".join(answer.text[:300].split())
            raise CommentRefused(f"{method} {url}: GitHub answered {answer.status_code}: {said}. {remedy}".rstrip())
        try:
            return answer.json()
        except ValueError:
            raise CommentRefused(f"{method} {url}: the answer is no JSON: is GITHUB_API_URL right?") from None


def post(path: Path, environment: Mapping[str, str]) -> str:
    """Write the report in ``path`` as the pull request's comment, over the one that is there; what was done, in words.

    Parameters
    ----------
    path : Path
        Markdown as ``hydrogate report --output`` writes it.
    environment : mapping of str to str
        ``GITHUB_API_URL``, ``GITHUB_TOKEN``, ``GITHUB_REPOSITORY``, ``GITHUB_EVENT_PATH``: as GitHub Actions sets them,
        the token by hand.

    Raises
    ------
    BadParams
        A variable is missing, the event is of no pull request, or the file is no report.
    CommentRefused
        GitHub does not take it.
    """
    body = _defanged(_read(path))
    github = _connect(environment)
    event = _event(environment)
    try:
        numbers = _pull_requests(github, event)
        done = [_post(github, number, body) for number in numbers]
    except CommentRefused as refusal:
        raise CommentRefused(str(refusal).replace(environment["GITHUB_TOKEN"], "***")) from None
    return "\n".join(done) or "no open pull request stands at this run's commit (any longer): nothing posted"


def _read(path: Path) -> str:
    if path.is_symlink() or not path.is_file():
        raise BadParams(f"--post {path}: no such file (or a link, which is not followed)")
    if path.stat().st_size > 4 * LIMIT:
        raise BadParams(f"--post {path}: {path.stat().st_size} bytes, a comment holds {LIMIT} characters")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise BadParams(f"--post {path}: no UTF-8 text: {error}") from error
    if not text.startswith(f"{MARKER}\n"):
        raise BadParams(f"--post {path}: no report of hydrogate: it does not begin with {MARKER}")
    return text


def _defanged(text: str) -> str:
    """``text`` that notifies nobody, links nowhere and holds no HTML but foldable sections; nothing of ours changes.

    Raises
    ------
    BadParams
        It is too long for a comment.
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
        raise BadParams(f"--post: {', '.join(missing)} not set; it is meant for GitHub Actions (docs/ci.md)")
    repository = environment["GITHUB_REPOSITORY"]
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise BadParams(f"--post: GITHUB_REPOSITORY is {repository!r}, expected owner/name")
    api = environment.get("GITHUB_API_URL", "https://api.github.com").rstrip("/")
    parts = urlsplit(api)
    if parts.scheme != "https" and parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        raise BadParams(f"--post: GITHUB_API_URL is {api}, expected https: the token must not travel in clear")

    def bearer(request: "PreparedRequest") -> "PreparedRequest":
        request.headers["Authorization"] = f"Bearer {environment['GITHUB_TOKEN']}"
        return request

    session = Session()
    # Not a header of the session: there a .netrc would take its place.
    session.auth = bearer
    session.headers.update({"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"})
    # A comment that may have been made is not made again: POST is not among the methods.
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
        raise BadParams(f"--post: the event in {path} is no mapping")
    return event


def _pull_requests(github: GitHub, event: Mapping[str, Any]) -> list[int]:
    """The open pull requests of the event; for a finished run those whose head still is the commit that ran."""
    try:
        if "pull_request" in event:
            return [int(event["pull_request"]["number"])]
        run = event["workflow_run"]
        sha, owner = run["head_sha"], (run["head_repository"] or {}).get("owner", {}).get("login", "")
        head = f"{owner}:{run['head_branch']}"
    except (KeyError, TypeError, ValueError) as error:
        raise BadParams("--post: the event is neither of a pull request nor of a workflow_run") from error
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
    """The comment that an earlier run made; one that a person wrote, marker and all, is left alone."""
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
