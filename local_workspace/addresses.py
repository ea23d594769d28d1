"""Build the addresses of the workspaces and the variables that lead a program to them."""

from __future__ import annotations

from collections.abc import Sequence

_DOMAIN = "workspace.test"
# The user whom the owner's token stands for.
OWNER = f"developer@{_DOMAIN}"


def workspace_url(workspace: str) -> str:
    """Return a workspace's address; `workspace` may be a placeholder such as ENV."""
    return f"http://{workspace}.{_DOMAIN}"


def workspace_id(environments: Sequence[str], workspace: str) -> str:
    """Return the number, as digits, by which clients know a workspace."""
    return str(1_000_000_000_000_001 + environments.index(workspace))


def token_endpoint(workspace: str) -> str:
    """Return the address where a workspace exchanges an identity for a token."""
    return f"{workspace_url(workspace)}/oidc/v1/token"


def mlflow_url(url: str, workspace: str) -> str:
    """Return the address of a workspace's MLflow on the server at `url`: of its pages, and its tracking URI."""
    return f"{url}/{workspace}/mlflow"


def workspace_of_host(host: str, environments: Sequence[str]) -> str | None:
    """Return the workspace that a request's Host header names, or None.

    An address of this machine stands for the first environment.
    """
    name = host.partition(":")[0].lower()
    if name in ("127.0.0.1", "localhost"):
        return environments[0]
    return {f"{environment}.{_DOMAIN}".lower(): environment for environment in environments}.get(name)


def proxy_variables(url: str) -> dict[str, str]:
    """Return the variables that make the server at `url` the proxy of a program.

    `http://ENV.workspace.test` leads here by a proxy because the databricks-cli drops the port of a host.
    """
    direct = "127.0.0.1,localhost"
    return {"http_proxy": url, "HTTP_PROXY": url, "no_proxy": direct, "NO_PROXY": direct}


def client_variables(url: str, token: str, workspace: str) -> dict[str, str]:
    """Return the variables that make dbx, the databricks-cli and the SDK talk to a workspace."""
    return {"DATABRICKS_HOST": workspace_url(workspace), "DATABRICKS_TOKEN": token, **proxy_variables(url)}
