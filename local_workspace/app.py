"""The workspace's HTTP surface: Databricks' REST routes and run pages, in front of MLflow's own server."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, jsonify, redirect, request
from rich.markup import escape as escape_markup
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from local_workspace import pages
from local_workspace.contexts import Contexts
from local_workspace.errors import ApiError, invalid, not_found
from local_workspace.runs import CLUSTER, JOB, Runs, check_settings, ended, now
from local_workspace.store import Document, Store
from local_workspace.tokens import Tokens

log = logging.getLogger(__name__)

ENVIRONMENTS = ("dev", "staging", "prod")
DOMAIN = "workspace.test"
_COOKIE = "workspace_token"
_OPEN_PATHS = (
    *("/health", "/.well-known/databricks-config", "/login"),
    # An identity is exchanged here for a token.
    *("/oidc/.well-known/oauth-authorization-server", "/oidc/v1/token"),
)
_USER = "developer@workspace.test"
_MLFLOW_PATHS = (
    *("/api/2.0/mlflow", "/api/2.0/mlflow-artifacts", "/api/2.0/preview/mlflow", "/api/3.0/mlflow", "/ajax-api"),
    *("/static-files", "/graphql", "/get-artifact", "/model-versions/get-artifact", "/version", "/mlflow"),
)
_LEVELS = {
    "jobs": ("CAN_VIEW", "CAN_MANAGE_RUN", "IS_OWNER", "CAN_MANAGE"),
    "experiments": ("CAN_READ", "CAN_EDIT", "CAN_MANAGE"),
    "registered-models": (
        "CAN_READ",
        "CAN_EDIT",
        "CAN_MANAGE_STAGING_VERSIONS",
        "CAN_MANAGE_PRODUCTION_VERSIONS",
        "CAN_MANAGE",
    ),
}
_PRINCIPALS = ("user_name", "group_name", "service_principal_name")

WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


@dataclass
class Workspaces:
    """Everything one server holds."""

    root: Path
    store: Store
    runs: Runs
    contexts: Contexts
    tokens: Tokens
    token: str
    url: str

    def stop(self) -> None:
        """End all that runs, then close the store."""
        self.contexts.stop()
        self.runs.stop()
        self.store.close()


def open_workspaces(root: Path, port: int, token: str) -> Workspaces:
    """The workspaces kept below `root`, made when they are not there."""
    url = f"http://127.0.0.1:{port}"
    store = Store(root / "workspace.db")

    def task_environment(workspace: str, principal: str) -> dict[str, str]:
        return {
            "MLFLOW_TRACKING_URI": url,
            "MLFLOW_REGISTRY_URI": url,
            "MLFLOW_TRACKING_TOKEN": token,
            "DATABRICKS_HOST": f"http://{workspace}.{DOMAIN}",
            "DATABRICKS_TOKEN": token,
            "BOOKING_PRINCIPAL": principal,
            **proxy_variables(port),
        }

    for environment in ENVIRONMENTS:
        _furnish(store, environment)
    runs = Runs(store, root, url, task_environment)
    return Workspaces(root, store, runs, Contexts(), Tokens(store, token), token, url)


def proxy_variables(port: int) -> dict[str, str]:
    """Variables that lead `http://ENV.workspace.test` here: the databricks-cli drops a port from a host."""
    proxy = f"http://127.0.0.1:{port}"
    return {
        "http_proxy": proxy,
        "HTTP_PROXY": proxy,
        "no_proxy": "127.0.0.1,localhost",
        "NO_PROXY": "127.0.0.1,localhost",
    }


def _furnish(store: Store, environment: str) -> None:
    """What deployment.yml expects to find: one all-purpose cluster and one service principal."""
    if store.all(environment, CLUSTER):
        return
    cluster = {
        "cluster_id": f"1123-000000-{environment}",
        "cluster_name": "booking-mlops",
        "state": "TERMINATED",
        "spark_version": "15.4.x-cpu-ml-scala2.12",
        "cluster_source": "UI",
        "num_workers": 0,
        "creator_user_name": _USER,
    }
    store.put(environment, CLUSTER, cluster["cluster_id"], cluster)
    principal = {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:ServicePrincipal"],
        "id": str(store.next_number()),
        "displayName": f"booking-mlops-{environment}",
        "applicationId": f"00000000-0000-0000-0000-{ENVIRONMENTS.index(environment) + 1:012d}",
        "active": True,
    }
    store.put(environment, "principal", principal["id"], principal)


def mlflow_app(root: Path) -> WsgiApp:
    """MLflow's own server, with its database and artifacts below `root`."""
    from mlflow.server import (
        ARTIFACT_ROOT_ENV_VAR,
        ARTIFACTS_DESTINATION_ENV_VAR,
        BACKEND_STORE_URI_ENV_VAR,
        REGISTRY_STORE_URI_ENV_VAR,
        SERVE_ARTIFACTS_ENV_VAR,
    )

    database = f"sqlite:///{root / 'mlflow.db'}"
    os.environ[BACKEND_STORE_URI_ENV_VAR] = database
    os.environ[REGISTRY_STORE_URI_ENV_VAR] = database
    os.environ[ARTIFACT_ROOT_ENV_VAR] = "mlflow-artifacts:/"
    os.environ[ARTIFACTS_DESTINATION_ENV_VAR] = (root / "mlartifacts").as_uri()
    os.environ[SERVE_ARTIFACTS_ENV_VAR] = "true"
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    from mlflow.server import app
    from mlflow.server.handlers import _get_model_registry_store, _get_tracking_store

    # Now rather than on the first two requests at once, which would both create the tables; and
    # without the log of it, which takes over the program's.
    root_logger = logging.getLogger()
    handlers, level = root_logger.handlers[:], root_logger.level
    with contextlib.redirect_stderr(io.StringIO()):
        _get_tracking_store()
        _get_model_registry_store()
    root_logger.handlers[:] = handlers
    root_logger.setLevel(level)
    wsgi_app: WsgiApp = app.wsgi_app
    return wsgi_app


def create_app(workspaces: Workspaces, mlflow: WsgiApp) -> WsgiApp:
    """The whole server as one WSGI application."""
    flask = Flask("local_workspace")
    _errors(flask)
    _jobs(flask, workspaces)
    _files(flask, workspaces)
    _administration(flask, workspaces)
    _execution(flask, workspaces)
    _identity(flask, workspaces)
    pages.add(flask, workspaces, _set_cookie)

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/health":
            return Response("OK")(environ, start_response)
        workspace = _workspace_of(environ)
        if workspace is None:
            return _refuse(404, "FEATURE_DISABLED", "No workspace of that host name.")(environ, start_response)
        if path not in _OPEN_PATHS and not workspaces.tokens.accepts(workspace, _given_token(environ)):
            if environ.get("REQUEST_METHOD") == "GET" and "text/html" in environ.get("HTTP_ACCEPT", ""):
                return redirect("/login")(environ, start_response)
            return _refuse(403, "PERMISSION_DENIED", "Invalid access token.")(environ, start_response)
        if path.startswith("/api/2.0/mlflow/databricks/"):
            pass
        elif path == "/mlflow":
            return redirect("/mlflow/")(environ, start_response)
        elif path.startswith(_MLFLOW_PATHS):
            # MLflow's pages ask for everything relative to where they are.
            if path.startswith("/mlflow/"):
                environ["PATH_INFO"] = path.removeprefix("/mlflow")
            return mlflow(environ, start_response)
        environ["local_workspace.name"] = workspace
        return flask.wsgi_app(environ, start_response)

    return application


def _workspace_of(environ: dict[str, Any]) -> str | None:
    """The workspace of a request's host name; an address of this machine stands for the first."""
    host = environ.get("HTTP_HOST", "").partition(":")[0].lower()
    if host in ("127.0.0.1", "localhost"):
        return ENVIRONMENTS[0]
    name, _, domain = host.partition(".")
    return name if domain == DOMAIN and name in ENVIRONMENTS else None


def _given_token(environ: dict[str, Any]) -> str:
    given = environ.get("HTTP_AUTHORIZATION", "").removeprefix("Bearer ").strip()
    if not given:
        cookies = dict(part.strip().split("=", 1) for part in environ.get("HTTP_COOKIE", "").split(";") if "=" in part)
        given = cookies.get(_COOKIE, "")
    return str(given)


def _set_cookie(response: BaseResponse, token: str) -> None:
    response.set_cookie(_COOKIE, token, httponly=True, samesite="Strict")


def _refuse(status: int, error_code: str, message: str) -> Response:
    return Response(
        f'{{"error_code": "{error_code}", "message": "{message}"}}', status=status, content_type="application/json"
    )


def _errors(flask: Flask) -> None:
    @flask.before_request
    def before() -> None:
        g.workspace = request.environ["local_workspace.name"]

    @flask.errorhandler(ApiError)
    def api_error(error: ApiError) -> tuple[Response, int]:
        return jsonify({"error_code": error.error_code, "message": error.message}), error.status

    @flask.errorhandler(HTTPException)
    def http_error(error: HTTPException) -> tuple[Response, int]:
        if error.code in (404, 405):
            log.warning("%s %s is not an endpoint of local_workspace", request.method, request.path)
            message = f"No API found for '{request.method} {request.path}'"
            return jsonify({"error_code": "ENDPOINT_NOT_FOUND", "message": message}), 404
        return jsonify({"error_code": "BAD_REQUEST", "message": str(error.description)}), error.code or 400

    @flask.errorhandler(Exception)
    def bug(error: Exception) -> tuple[Response, int]:
        log.exception("%s %s", request.method, request.path)
        return jsonify({"error_code": "INTERNAL_ERROR", "message": str(error)}), 500


def _body() -> Document:
    """Parameters of the request: its query, and its JSON body, which dbx sends with GET too."""
    given: Document = dict(request.args)
    if request.get_data():
        content = request.get_json(force=True, silent=True)
        if not isinstance(content, dict):
            raise ApiError(400, "MALFORMED_REQUEST", "The body must be a JSON object.")
        given.update(content)
    return given


def _number(body: Document, name: str) -> int:
    try:
        return int(body[name])
    except KeyError:
        raise invalid(f"Missing required field: {name}") from None
    except (TypeError, ValueError):
        raise invalid(f"{name} must be a number, got {body[name]!r}") from None


def _text(body: Document, name: str) -> str:
    if not body.get(name):
        raise invalid(f"Missing required field: {name}")
    return str(body[name])


def _page(items: list[Document], body: Document, limit: int) -> tuple[list[Document], Document]:
    """One page of a list, and the fields that lead to the next."""
    size = max(1, min(int(body.get("limit") or limit), 100))
    start = int(body.get("page_token") or body.get("offset") or 0)
    more = start + size < len(items)
    rest: Document = {"has_more": more}
    if more:
        rest["next_page_token"] = str(start + size)
    return items[start : start + size], rest


def _jobs(flask: Flask, workspaces: Workspaces) -> None:
    store, runs = workspaces.store, workspaces.runs

    def route(path: str, method: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def add(view: Callable[..., Any]) -> Callable[..., Any]:
            for version in ("2.0", "2.1", "2.2"):
                flask.add_url_rule(f"/api/{version}/jobs/{path}", f"{version} {path}", view, methods=[method])
            return view

        return add

    def job_of(body: Document) -> Document:
        job = store.get(g.workspace, JOB, _number(body, "job_id"))
        if job is None:
            raise ApiError(400, "INVALID_PARAMETER_VALUE", f"Job {body['job_id']} does not exist.")
        return job

    @route("create", "POST")
    def create() -> Response:
        settings = _body()
        access = settings.pop("access_control_list", None)
        check_settings(settings)
        number = store.next_number()
        job = {"job_id": number, "creator_user_name": _USER, "created_time": now(), "settings": _settings(settings)}
        with store.transaction():
            store.put(g.workspace, JOB, number, job)
            if access:
                _set_permissions(store, g.workspace, "jobs", str(number), access)
        return jsonify({"job_id": number})

    @route("reset", "POST")
    def reset() -> Response:
        body = _body()
        job = job_of(body)
        settings = dict(body.get("new_settings") or {})
        settings.pop("access_control_list", None)
        check_settings(settings)
        store.change(g.workspace, JOB, job["job_id"], settings=_settings(settings))
        return jsonify({})

    @route("update", "POST")
    def update() -> Response:
        body = _body()
        job = job_of(body)
        settings = {**job["settings"], **(body.get("new_settings") or {})}
        for name in body.get("fields_to_remove") or []:
            settings.pop(name, None)
        check_settings(settings)
        store.change(g.workspace, JOB, job["job_id"], settings=settings)
        return jsonify({})

    @route("list", "GET")
    def list_jobs() -> Response:
        body = _body()
        name = body.get("name")
        found = [
            job for job in store.all(g.workspace, JOB) if not name or job["settings"]["name"].lower() == name.lower()
        ]
        page, rest = _page(found, body, 20)
        return jsonify({"jobs": page, **rest} if page else rest)

    @route("get", "GET")
    def get() -> Response:
        return jsonify(job_of(_body()))

    @route("delete", "POST")
    def delete() -> Response:
        job = job_of(_body())
        for run in runs.of(g.workspace, job_id=job["job_id"]):
            if not ended(run):
                runs.cancel(g.workspace, run["run_id"])
        store.delete(g.workspace, JOB, job["job_id"])
        store.delete(g.workspace, "permissions/jobs", job["job_id"])
        return jsonify({})

    @route("run-now", "POST")
    def run_now() -> Response:
        body = _body()
        job = job_of(body)
        run_id = runs.submit(
            g.workspace, job["settings"], job_id=job["job_id"], user=_USER, parameters=body.get("python_params")
        )
        return jsonify({"run_id": run_id, "number_in_job": run_id})

    @route("runs/submit", "POST")
    def submit() -> Response:
        return jsonify({"run_id": runs.submit(g.workspace, _body(), job_id=None, user=_USER)})

    @route("runs/get", "GET")
    def get_run() -> Response:
        return jsonify(runs.get(g.workspace, _number(_body(), "run_id")))

    @route("runs/list", "GET")
    def list_runs() -> Response:
        body = _body()
        found = runs.of(g.workspace, job_id=_number(body, "job_id") if body.get("job_id") else None)
        wanted = {"active_only": False, "completed_only": True}
        for name, over in wanted.items():
            if str(body.get(name, "")).lower() == "true":
                found = [run for run in found if ended(run) == over]
        page, rest = _page(found, body, 20)
        described = [{k: v for k, v in runs.get(g.workspace, run["run_id"]).items() if k != "tasks"} for run in page]
        return jsonify({"runs": described, **rest} if described else rest)

    @route("runs/get-output", "GET")
    def get_output() -> Response:
        output = runs.output(g.workspace, _number(_body(), "run_id"))
        if "cicdtemplates" in request.headers.get("User-Agent", ""):
            # dbx prints these as rich markup: a bracket in a log would be taken for a tag.
            for name in ("logs", "error", "error_trace"):
                if name in output:
                    output[name] = escape_markup(output[name])
        return jsonify(output)

    @route("runs/cancel", "POST")
    def cancel() -> Response:
        runs.cancel(g.workspace, _number(_body(), "run_id"))
        return jsonify({})

    @route("runs/cancel-all", "POST")
    def cancel_all() -> Response:
        for run in runs.of(g.workspace, job_id=job_of(_body())["job_id"]):
            if not ended(run):
                runs.cancel(g.workspace, run["run_id"])
        return jsonify({})


def _settings(settings: Document) -> Document:
    """Job settings as stored: without what belongs to dbx rather than to the job."""
    kept = {key: value for key, value in settings.items() if key not in ("workflow_type", "job_id")}
    return {"format": "MULTI_TASK", "max_concurrent_runs": 1, **kept}


def _files(flask: Flask, workspaces: Workspaces) -> None:
    runs = workspaces.runs
    handles: dict[int, tuple[str, bool, bytearray]] = {}

    @flask.route("/dbfs/<path:path>", methods=["GET", "HEAD", "POST", "PUT"])
    def raw(path: str) -> Response:
        dbfs = runs.dbfs(g.workspace)
        if request.method in ("POST", "PUT"):
            dbfs.write(f"/{path}", request.get_data())
            return jsonify({})
        return Response(dbfs.read(f"/{path}"), content_type="application/octet-stream")

    @flask.post("/api/2.0/dbfs/put")
    def put_file() -> Response:
        body = dict(request.form) if request.files else _body()
        content = next(iter(request.files.values())).read() if request.files else _base64(body, "contents")
        overwrite = str(body.get("overwrite", "false")).lower() == "true"
        runs.dbfs(g.workspace).write(_text(body, "path"), content, overwrite=overwrite)
        return jsonify({})

    @flask.post("/api/2.0/dbfs/create")
    def open_handle() -> Response:
        body = _body()
        runs.dbfs(g.workspace).local(_text(body, "path"))
        handle = workspaces.store.next_number()
        handles[handle] = (body["path"], bool(body.get("overwrite")), bytearray())
        return jsonify({"handle": handle})

    @flask.post("/api/2.0/dbfs/add-block")
    def add_block() -> Response:
        body = _body()
        _handle(handles, body)[2].extend(_base64(body, "data"))
        return jsonify({})

    @flask.post("/api/2.0/dbfs/close")
    def close_handle() -> Response:
        body = _body()
        path, overwrite, content = _handle(handles, body)
        runs.dbfs(g.workspace).write(path, bytes(content), overwrite=overwrite)
        del handles[_number(body, "handle")]
        return jsonify({})

    @flask.get("/api/2.0/dbfs/get-status")
    def file_status() -> Response:
        return jsonify(runs.dbfs(g.workspace).status(_text(_body(), "path")))

    @flask.get("/api/2.0/dbfs/list")
    def list_files() -> Response:
        return jsonify({"files": runs.dbfs(g.workspace).listing(_text(_body(), "path"))})

    @flask.get("/api/2.0/dbfs/read")
    def read_block() -> Response:
        from base64 import b64encode

        body = _body()
        start, length = int(body.get("offset") or 0), min(int(body.get("length") or 1 << 20), 1 << 20)
        content = runs.dbfs(g.workspace).read(_text(body, "path"))[start : start + length]
        return jsonify({"bytes_read": len(content), "data": b64encode(content).decode()})

    @flask.post("/api/2.0/dbfs/mkdirs")
    def make_folder() -> Response:
        runs.dbfs(g.workspace).local(_text(_body(), "path")).mkdir(parents=True, exist_ok=True)
        return jsonify({})

    @flask.post("/api/2.0/dbfs/delete")
    def delete_file() -> Response:
        body = _body()
        runs.dbfs(g.workspace).delete(_text(body, "path"), recursive=bool(body.get("recursive")))
        return jsonify({})

    @flask.post("/api/2.0/dbfs/move")
    def move_file() -> Response:
        body = _body()
        runs.dbfs(g.workspace).move(_text(body, "source_path"), _text(body, "destination_path"))
        return jsonify({})


def _handle(handles: dict[int, tuple[str, bool, bytearray]], body: Document) -> tuple[str, bool, bytearray]:
    found = handles.get(_number(body, "handle"))
    if found is None:
        raise not_found(f"No open handle {body['handle']}")
    return found


def _base64(body: Document, name: str) -> bytes:
    from base64 import b64decode
    from binascii import Error

    try:
        return b64decode(str(body.get(name) or ""), validate=True)
    except Error:
        raise invalid(f"{name} must be base64") from None


def _administration(flask: Flask, workspaces: Workspaces) -> None:
    store = workspaces.store

    @flask.get("/.well-known/databricks-config")
    def well_known() -> Response:
        return jsonify({"host": f"http://{g.workspace}.{DOMAIN}", "cloud": "local", "workspace_id": g.workspace})

    @flask.post("/api/2.0/workspace/mkdirs")
    def make_workspace_folder() -> Response:
        return jsonify({})

    @flask.get("/api/2.0/preview/scim/v2/Me")
    def me() -> Response:
        return jsonify({"id": "1", "userName": _USER, "displayName": "developer", "active": True})

    @flask.get("/api/2.0/preview/scim/v2/ServicePrincipals")
    def principals() -> Response:
        found = store.all(g.workspace, "principal")
        start = max(1, int(request.args.get("startIndex", 1)))
        page = found[start - 1 : start - 1 + int(request.args.get("count", 100))]
        return jsonify({"totalResults": len(found), "startIndex": start, "itemsPerPage": len(page), "Resources": page})

    @flask.get("/api/2.0/policies/clusters/list")
    def policies() -> Response:
        return jsonify({"policies": [], "total_count": 0})

    for version in ("2.0", "2.1"):
        flask.add_url_rule(
            f"/api/{version}/clusters/list",
            f"{version} clusters",
            lambda: jsonify({"clusters": store.all(g.workspace, CLUSTER)}),
        )
        flask.add_url_rule(
            f"/api/{version}/clusters/get",
            f"{version} cluster",
            lambda: jsonify(cluster_of(_body())),
        )

    def cluster_of(body: Document) -> Document:
        cluster = store.get(g.workspace, CLUSTER, _text(body, "cluster_id"))
        if cluster is None:
            raise ApiError(400, "INVALID_PARAMETER_VALUE", f"Cluster {body['cluster_id']} does not exist")
        return cluster

    @flask.post("/api/2.0/clusters/start")
    def start_cluster() -> Response:
        store.change(g.workspace, CLUSTER, cluster_of(_body())["cluster_id"], state="RUNNING", start_time=now())
        return jsonify({})

    @flask.post("/api/2.0/clusters/delete")
    def terminate_cluster() -> Response:
        store.change(g.workspace, CLUSTER, cluster_of(_body())["cluster_id"], state="TERMINATED")
        return jsonify({})

    @flask.get("/api/2.0/mlflow/databricks/registered-models/get")
    def registered_model() -> Response:
        from mlflow.exceptions import MlflowException
        from mlflow.server.handlers import _get_model_registry_store

        name = _text(_body(), "name")
        try:
            _get_model_registry_store().get_registered_model(name)
        except MlflowException:
            raise not_found(f"Registered Model with name={name} not found") from None
        return jsonify({"registered_model_databricks": {"id": name, "name": name}})

    @flask.route("/api/2.1/unity-catalog/permissions/<kind>/<name>", methods=["GET", "PATCH"])
    def privileges(kind: str, name: str) -> Response:
        stored = f"privileges/{kind}"
        granted: dict[str, list[str]] = store.get(g.workspace, stored, name) or {}
        if request.method == "PATCH":
            for change in _body().get("changes") or []:
                kept = set(granted.get(_text(change, "principal"), [])) - set(change.get("remove") or [])
                granted[change["principal"]] = sorted(kept | set(change.get("add") or []))
            store.put(g.workspace, stored, name, granted)
        given = [{"principal": principal, "privileges": names} for principal, names in granted.items()]
        return jsonify({"privilege_assignments": given})

    @flask.delete("/api/2.1/unity-catalog/schemas/<name>")
    def drop_schema(name: str) -> Response:
        """The schema's tables, and its registered models."""
        from mlflow.server.handlers import _get_model_registry_store

        catalog, _, schema = name.partition(".")
        if not re.fullmatch(r"\w+\.\w+", name):
            raise invalid(f"{name} is not CATALOG.SCHEMA")
        folder = runs_home() / "lake" / "warehouse" / f"{catalog}__{schema}.db"
        if not folder.is_dir():
            raise not_found(f"Schema '{name}' does not exist.")
        if any(folder.iterdir()) and str(_body().get("force", "")).lower() != "true":
            raise invalid(f"Schema '{name}' is not empty.")
        shutil.rmtree(folder)
        registry = _get_model_registry_store()
        for model in registry.search_registered_models(filter_string=f"name LIKE '{name}.%'"):
            registry.delete_registered_model(model.name)
        return jsonify({})

    def runs_home() -> Path:
        return workspaces.runs.home(g.workspace)

    @flask.route("/api/2.0/permissions/<kind>/<identifier>", methods=["GET", "PUT", "PATCH"])
    def permissions(kind: str, identifier: str) -> Response:
        if kind not in _LEVELS:
            raise invalid(f"Permissions of {kind} are not supported by local_workspace")
        if kind == "jobs" and store.get(g.workspace, JOB, identifier) is None:
            raise not_found(f"Job {identifier} does not exist.")
        if request.method != "GET":
            entries = _body().get("access_control_list") or []
            if request.method == "PATCH":
                before = (store.get(g.workspace, f"permissions/{kind}", identifier) or {"entries": []})["entries"]
                named = {_principal(entry) for entry in entries}
                entries = [entry for entry in before if _principal(entry) not in named] + entries
            _set_permissions(store, g.workspace, kind, identifier, entries)
        found = store.get(g.workspace, f"permissions/{kind}", identifier) or {"entries": []}
        return jsonify(
            {
                "object_id": f"/{kind}/{identifier}",
                "object_type": kind.removesuffix("s"),
                "access_control_list": [
                    {
                        **{key: entry[key] for key in _PRINCIPALS if key in entry},
                        "all_permissions": [{"permission_level": entry["permission_level"], "inherited": False}],
                    }
                    for entry in found["entries"]
                ],
            }
        )


def _principal(entry: Document) -> tuple[str, ...]:
    return tuple(str(entry.get(key) or "") for key in _PRINCIPALS)


def _set_permissions(store: Store, workspace: str, kind: str, identifier: str, entries: list[Document]) -> None:
    for entry in entries:
        if sum(bool(entry.get(key)) for key in _PRINCIPALS) != 1:
            raise invalid("An access control entry names one user, group or service principal.")
        if entry.get("permission_level") not in _LEVELS[kind]:
            raise invalid(f"{entry.get('permission_level')} is not a permission level of {kind}")
    if kind == "jobs" and entries and sum(entry["permission_level"] == "IS_OWNER" for entry in entries) != 1:
        raise invalid("The job must have exactly one owner.")
    store.put(workspace, f"permissions/{kind}", identifier, {"entries": entries})


def _identity(flask: Flask, workspaces: Workspaces) -> None:
    """OAuth for workflows: the workspace's endpoints, and a stand-in for GitHub's issuer of identities."""
    tokens = workspaces.tokens

    def token_endpoint() -> str:
        return f"http://{g.workspace}.{DOMAIN}/oidc/v1/token"

    @flask.get("/oidc/.well-known/oauth-authorization-server")
    def endpoints() -> Response:
        return jsonify(
            {
                "authorization_endpoint": f"http://{g.workspace}.{DOMAIN}/oidc/v1/authorize",
                "token_endpoint": token_endpoint(),
            }
        )

    @flask.post("/oidc/v1/token")
    def exchange() -> Response:
        form: Document = dict(request.form)
        if form.get("grant_type") != "urn:ietf:params:oauth:grant-type:token-exchange":
            raise ApiError(400, "unsupported_grant_type", "local_workspace keeps no secrets: exchange an identity.")
        given = tokens.exchange(g.workspace, _text(form, "client_id"), _text(form, "subject_token"), token_endpoint())
        return jsonify(given)

    @flask.get("/github/identity")
    def identity() -> Response:
        if not tokens.is_owner(_given_token(request.environ)):
            raise ApiError(403, "PERMISSION_DENIED", "Only the owner of the workspaces asks for identities.")
        body = _body()
        signed = tokens.identity(_text(body, "repository"), _text(body, "environment"), _text(body, "audience"))
        return jsonify({"value": signed})


def _execution(flask: Flask, workspaces: Workspaces) -> None:
    contexts = workspaces.contexts

    @flask.post("/api/1.2/contexts/create")
    def create_context() -> Response:
        body = _body()
        cluster = workspaces.store.get(g.workspace, CLUSTER, _text(body, "clusterId"))
        if cluster is None or cluster["state"] != "RUNNING":
            raise ApiError(400, "INVALID_STATE", f"Cluster {body['clusterId']} is not running")
        runs, number = workspaces.runs, workspaces.store.next_number()
        env, folder = runs.environment(g.workspace, _USER), runs.home(g.workspace) / "contexts"
        language = str(body.get("language", "python"))
        return jsonify({"id": contexts.create(language, env, folder, runs.dbfs(g.workspace).root, number)})

    @flask.get("/api/1.2/contexts/status")
    def context_status() -> Response:
        context = contexts.get(_text(_body(), "contextId"))
        return jsonify({"id": context.identifier, "status": "Running" if context.running else "Error"})

    @flask.post("/api/1.2/commands/execute")
    def execute_command() -> Response:
        body = _body()
        return jsonify({"id": contexts.get(_text(body, "contextId")).execute(_text(body, "command"))})

    @flask.get("/api/1.2/commands/status")
    def command_status() -> Response:
        body = _body()
        return jsonify(contexts.get(_text(body, "contextId")).status(_text(body, "commandId")))

    @flask.post("/api/1.2/commands/cancel")
    def cancel_command() -> Response:
        contexts.get(_text(_body(), "contextId")).stop()
        return jsonify({})
