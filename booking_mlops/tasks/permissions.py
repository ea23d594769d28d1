"""Permissions of the schema, the experiment and the registered model, applied from the environment's YAML."""

from __future__ import annotations

import os
from typing import Any

from booking_mlops.config.model import Grant
from booking_mlops.io.workspace import Workspace, in_workspace
from booking_mlops.tasks.base import Task


def apply_schema_permissions(task: Task[Any, Any]) -> None:
    """Set what `permissions.schema` says. Only Unity Catalog has such permissions, and only a workspace applies them.

    Raises: WorkspaceError when the workspace refuses.
    """
    wanted = task.env.permissions.schema
    if not wanted or not task.in_unity_catalog or not in_workspace(os.environ):
        return
    Workspace().grant_schema(f"{task.env.catalog}.{task.env.schema}", [_entry(grant) for grant in wanted])
    task.log.info("permissions set: %d for the schema", len(wanted))


def apply_permissions(task: Task[Any, Any]) -> None:
    """Set what `permissions` says of the experiment and the model; elsewhere than in a workspace, nothing.

    Raises: WorkspaceError when the workspace refuses.
    """
    wanted = task.env.permissions
    if not (wanted.experiment or wanted.model) or not in_workspace(os.environ):
        return
    workspace = Workspace()
    if wanted.experiment:
        workspace.grant_experiment(task.registry.experiment_id(), [_entry(grant) for grant in wanted.experiment])
    if wanted.model:
        model = task.env.model_name
        if task.registry.has_stages:
            workspace.grant_model(model, [_entry(grant) for grant in wanted.model])
        else:
            workspace.grant_unity_catalog_model(model, [_entry(grant) for grant in wanted.model])
    task.log.info("permissions set: %d for the experiment, %d for the model", len(wanted.experiment), len(wanted.model))


def _entry(grant: Grant) -> dict[str, str]:
    names = {
        "user_name": grant.user_name,
        "group_name": grant.group_name,
        "service_principal_name": grant.service_principal_name,
        "permission_level": grant.permission_level,
    }
    return {key: value for key, value in names.items() if value}
