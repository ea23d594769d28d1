"""Permissions of the schema, the experiment and the registered model, applied from the environment's YAML."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from booking_mlops.config.environment import Grant
from booking_mlops.session import Session

log = logging.getLogger(__name__)


def apply_schema_permissions(session: Session) -> None:
    """Apply the grants on the schema. Only Unity Catalog has such grants; elsewhere nothing is done.

    Raises: WorkspaceError when the workspace refuses.
    """
    env, workspace = session.env, session.workspace
    grants = env.permissions.on_schema
    if not grants or not env.in_unity_catalog or workspace is None:
        return
    workspace.grant_schema(f"{env.catalog}.{env.schema}", _entries(grants))
    log.info("applied %d permissions on the schema", len(grants))


def apply_model_permissions(session: Session) -> None:
    """Apply the grants on the experiment and on the registered model. Outside a workspace nothing is done.

    Raises: WorkspaceError when the workspace refuses.
    """
    env, workspace, registry = session.env, session.workspace, session.registry
    on_experiment, on_model = env.permissions.on_experiment, env.permissions.on_model
    if workspace is None or not (on_experiment or on_model):
        return
    if on_experiment:
        workspace.grant_experiment(registry.experiment_id(), _entries(on_experiment))
    if on_model:
        grant = workspace.grant_model if registry.has_stages else workspace.grant_unity_catalog_model
        grant(env.model_name, _entries(on_model))
    log.info("applied %d permissions on the experiment and %d on the model", len(on_experiment), len(on_model))


def _entries(grants: Sequence[Grant]) -> list[dict[str, str]]:
    return [{key: value for key, value in vars(grant).items() if value} for grant in grants]
