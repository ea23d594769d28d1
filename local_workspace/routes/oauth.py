"""Answer the OAuth routes by which a workflow gets a token, and stand in for GitHub, which issues its identity."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from local_workspace.addresses import token_endpoint, workspace_id, workspace_url
from local_workspace.errors import ApiError
from local_workspace.routes.common import all_workspaces, parameters, text, this_workspace
from local_workspace.store import Document
from local_workspace.tokens import given_token

blueprint = Blueprint("oauth", __name__)

_TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105


@blueprint.get("/.well-known/databricks-config")
def databricks_config() -> Response:
    """Return what clients ask a host about itself."""
    environments, workspace = all_workspaces().environments, this_workspace()
    return jsonify(
        {
            "host": workspace_url(workspace),
            "oidc_endpoint": f"{workspace_url(workspace)}/oidc",
            # Clients know three clouds. Ids are digits, as on Databricks; the environments are counted.
            "cloud": "AWS",
            "workspace_id": workspace_id(environments, workspace),
        }
    )


@blueprint.get("/oidc/.well-known/oauth-authorization-server")
def endpoints() -> Response:
    """Return the addresses of the OAuth endpoints."""
    workspace = this_workspace()
    return jsonify(
        {
            "authorization_endpoint": f"{workspace_url(workspace)}/oidc/v1/authorize",
            "token_endpoint": token_endpoint(workspace),
        }
    )


@blueprint.post("/oidc/v1/token")
def exchange() -> Response:
    """Exchange an identity for a short-lived token."""
    form: Document = dict(request.form)
    if form.get("grant_type") != _TOKEN_EXCHANGE:
        raise ApiError(400, "unsupported_grant_type", "local_workspace keeps no secrets: exchange an identity.")
    workspace = this_workspace()
    client_id, subject_token = text(form, "client_id"), text(form, "subject_token")
    return jsonify(all_workspaces().tokens.exchange(workspace, client_id, subject_token, token_endpoint(workspace)))


@blueprint.get("/github/identity")
def github_identity() -> Response:
    """Issue the identity of a workflow's job, for the owner only."""
    tokens = all_workspaces().tokens
    if not tokens.is_owner(given_token(request.environ)):
        raise ApiError(403, "PERMISSION_DENIED", "Only the owner of the workspaces asks for identities.")
    fields = parameters()
    signed = tokens.identity(text(fields, "repository"), text(fields, "environment"), text(fields, "audience"))
    return jsonify({"value": signed})
