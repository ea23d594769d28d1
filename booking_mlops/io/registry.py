"""MLflow: the experiment and the model registry; one class covers the three kinds of registry.

The workspace registry (`databricks`) has stages and no aliases, Unity Catalog (`databricks-uc`) has aliases and no
stages, every other server has both.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from booking_mlops.errors import NoChampion, RegistryError
from booking_mlops.io.logged import LoggedModel, TableVersion
from booking_mlops.io.machine import Machine
from booking_mlops.io.mlflow_calls import (
    explained,
    own_environment,
    own_logging,
    quiet,
    without_secrets,
    without_stray_folder,
)
from booking_mlops.io.mlflow_database import lakes_own, open_database

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

CHAMPION = "champion"
CHALLENGER = "challenger"
PRODUCTION = "Production"
STAGING = "Staging"
# Tags of a version: the Delta versions it was trained on, and on how many rows.
FEATURES_VERSION_TAG = "features_version"
LABELS_VERSION_TAG = "labels_version"
TRAINING_ROWS_TAG = "training_rows"
AS_OF_TAG = "as_of"
CONFIRMED_BY_TAG = "confirmed_by"
"""A champion's tag: the version that was trained later and was not better."""


@dataclass(frozen=True)
class Version:
    """A registered version: its number, the run that made it, and what was recorded with it."""

    name: str
    number: int
    run_id: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """Where MLflow finds the model."""
        return f"models:/{self.name}/{self.number}"


class Registry:
    """One model's experiment and registry. Nothing is contacted before the first call."""

    def __init__(
        self,
        machine: Machine,
        *,
        model_name: str,
        experiment: str,
        tracking_uri: str | None = None,
        registry_uri: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        environ = os.environ if environ is None else environ
        own = "databricks" if machine.on_cluster else machine.tracking_uri
        # The operator's variables win over the file, as they do everywhere in MLflow.
        self.tracking_uri = environ.get("MLFLOW_TRACKING_URI") or tracking_uri or own
        self.registry_uri = environ.get("MLFLOW_REGISTRY_URI") or registry_uri or self.tracking_uri
        self.model_name = model_name
        self.experiment = experiment
        self._machine = machine
        self._client: MlflowClient | None = None
        # A version never changes, so its signature and metadata are fetched once.
        self._infos: dict[str, tuple[dict[str, str], dict[str, Any]]] = {}

    @property
    def has_aliases(self) -> bool:
        """False for the workspace registry of Databricks, whose client refuses them."""
        return self.registry_uri.split(":")[0] != "databricks"

    @property
    def has_stages(self) -> bool:
        """False for Unity Catalog."""
        return self.registry_uri.split(":")[0] != "databricks-uc"

    @property
    def _in_lake(self) -> bool:
        return self.tracking_uri == self._machine.tracking_uri

    def client(self) -> MlflowClient:
        """Return MLflow's client, made on first use; create the local store when there is none."""
        if self._client is None:
            import mlflow

            with own_environment():
                mlflow.set_tracking_uri(self.tracking_uri)
                mlflow.set_registry_uri(self.registry_uri)
            with (
                explained(f"tracking server {without_secrets(self.tracking_uri)}"),
                own_logging(),
                lakes_own(self._machine.artifacts) if self._in_lake else nullcontext(),
                without_stray_folder(),
            ):
                self._client = open_database(
                    self.tracking_uri, lambda: mlflow.MlflowClient(self.tracking_uri, self.registry_uri)
                )
        return self._client

    def experiment_id(self) -> str:
        """Return the experiment's id; create the experiment when it is not there."""
        from mlflow.exceptions import MlflowException

        client = self.client()
        with explained(f"experiment {self.experiment}"):
            found = client.get_experiment_by_name(self.experiment)
            if found is None:
                location = self._machine.artifacts.as_uri() if self._in_lake else None
                try:
                    return str(client.create_experiment(self.experiment, artifact_location=location))
                except MlflowException as error:
                    # Another run was quicker, or the answer was lost on its way and the request was sent again.
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                    found = client.get_experiment_by_name(self.experiment)
            return str(found.experiment_id)

    @contextmanager
    def run(self, name: str, tags: Mapping[str, str]) -> Iterator[str]:
        """Start an MLflow run and yield its id. An error inside marks the run FAILED and is raised again."""
        import mlflow

        experiment_id = self.experiment_id()
        with explained(f"starting a run of experiment {self.experiment}"):
            started = mlflow.start_run(experiment_id=experiment_id, run_name=name, tags=dict(tags))
        try:
            yield started.info.run_id
        except BaseException:
            # The error that stopped the run matters more than a server that can't be told of it.
            with suppress(RegistryError), explained("ending the run"):
                mlflow.end_run("FAILED")
            raise
        with explained(f"ending run {started.info.run_id}"):
            mlflow.end_run()

    def log_metrics(
        self,
        metrics: Mapping[str, float],
        params: Mapping[str, Any],
        *,
        model: LoggedModel | None = None,
        data: TableVersion | None = None,
    ) -> None:
        """Log metrics and parameters to the active run; metrics that are not finite numbers are left out.

        From MLflow 3 on the metrics are linked to the logged `model` and to the `data` it was measured on.
        """
        import mlflow

        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        links = {"model_id": model.model_id, "dataset": data and data.dataset()} if model and model.model_id else {}
        with explained("logging to the run"):
            mlflow.log_params(dict(params))
            mlflow.log_metrics(finite, **links)

    def log_input(self, data: TableVersion, context: str) -> None:
        """Log to the active run that it read a table; `context` says for what, such as "training"."""
        import mlflow

        with explained("logging the run's data"), quiet():
            mlflow.log_input(data.dataset(), context=context)

    def log_files(self, files: Mapping[str, str | bytes]) -> None:
        """Log artifacts, path to content, to the active run."""
        import mlflow

        with explained("logging artifacts to the run"), tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                target = Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.encode() if isinstance(content, str) else content)
            mlflow.log_artifacts(folder)

    def log_model(
        self, model: Any, example: pd.DataFrame, probabilities: Any, metadata: Mapping[str, Any]
    ) -> LoggedModel:
        """Log the fitted pipeline as the active run's model, with signature and input example.

        Its pyfunc flavour answers with probabilities: a column for each class.
        """
        import mlflow
        import numpy
        import pandas
        import sklearn
        from mlflow.models import infer_signature

        requirements = [
            f"{module.__name__.replace('sklearn', 'scikit-learn')}=={module.__version__}"
            for module in (sklearn, pandas, numpy)
        ]
        with explained("logging the model"), quiet():
            info = mlflow.sklearn.log_model(
                model,
                artifact_path="model",
                signature=infer_signature(example, probabilities),
                input_example=example,
                pip_requirements=requirements,
                pyfunc_predict_fn="predict_proba",
                metadata=dict(metadata),
                # MLflow 3.17 would take another format, which refuses classes that it does not know.
                serialization_format=mlflow.sklearn.SERIALIZATION_FORMAT_CLOUDPICKLE,
            )
        return LoggedModel(info.model_uri, getattr(info, "model_id", None))

    def register(self, logged: LoggedModel, tags: Mapping[str, str]) -> Version:
        """Register a logged model as a new version, aliased `challenger` where there are aliases."""
        import mlflow

        with explained(f"registering {self.model_name}"), quiet():
            made = mlflow.register_model(logged.uri, self.model_name, tags=dict(tags))
            if self.has_aliases:
                self.client().set_registered_model_alias(self.model_name, CHALLENGER, made.version)
        return _version(made)

    def set_tag(self, number: int, name: str, value: str) -> None:
        """Give a version a tag, in place of the one it has of that name."""
        client = self.client()
        with explained(f"tag {name} of {self.model_name} version {number}"), quiet():
            client.set_model_version_tag(self.model_name, str(number), name, value)

    def version(self, number: int) -> Version:
        """Return a registered version.

        Raises: RegistryError when it does not exist.
        """
        client = self.client()
        with explained(f"{self.model_name} version {number}"):
            return _version(client.get_model_version(self.model_name, str(number)))

    def versions(self) -> list[Version]:
        """Return every registered version, oldest first."""
        from mlflow.exceptions import MlflowException

        client = self.client()
        found: list[Version] = []
        token = None
        with explained(f"versions of {self.model_name}"):
            while True:
                try:
                    page = client.search_model_versions(f"name = '{self.model_name}'", page_token=token)
                except MlflowException as error:
                    # Unity Catalog says so of a model without versions.
                    if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                        raise
                    return []
                # Unity Catalog lists versions without their tags.
                found.extend(
                    _version(item if self.has_stages else client.get_model_version(self.model_name, item.version))
                    for item in page
                )
                token = page.token
                if not token:
                    return sorted(found, key=lambda version: version.number)

    def champion(self) -> Version | None:
        """Return the version that is champion, if any: by alias, or by stage where there are no aliases."""
        from mlflow.exceptions import MlflowException

        client = self.client()
        with explained(f"champion of {self.model_name}"):
            try:
                if self.has_aliases:
                    return _version(client.get_model_version_by_alias(self.model_name, CHAMPION))
                with quiet():
                    staged = client.get_latest_versions(self.model_name, stages=[PRODUCTION])
            except MlflowException as error:
                # A server answers INVALID_PARAMETER_VALUE for an alias that is not set.
                if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                    return None
                raise
        return _version(staged[0]) if staged else None

    def require_champion(self) -> Version:
        """Return the champion.

        Raises: NoChampion.
        """
        found = self.champion()
        if found is None:
            raise NoChampion(
                f"model {self.model_name} has no champion; run model-train until a version passes the gates"
            )
        return found

    def make_champion(self, number: int) -> None:
        """Give a version the alias `champion`, and the stage Production where there are stages.

        Doing it twice changes nothing. The alias moves last: readers that know aliases follow it.
        """
        self.client()
        with explained(f"promoting {self.model_name} version {number}"), quiet():
            self._move(number, PRODUCTION, CHAMPION)

    def make_challenger(self, number: int) -> None:
        """Give a version that waits for approval the alias `challenger`, and the stage Staging where there are stages.

        Doing it twice changes nothing.
        """
        self.client()
        with explained(f"marking {self.model_name} version {number}"), quiet():
            self._move(number, STAGING, CHALLENGER)

    def _move(self, number: int, stage: str, alias: str) -> None:
        client = self.client()
        if self.has_stages and client.get_model_version(self.model_name, str(number)).current_stage != stage:
            client.transition_model_version_stage(self.model_name, str(number), stage, archive_existing_versions=True)
        if self.has_aliases:
            client.set_registered_model_alias(self.model_name, alias, str(number))

    def metric(self, run_id: str, name: str) -> float:
        """Return a metric of a run; NaN when the run has none of that name."""
        client = self.client()
        with explained(f"run {run_id}"):
            return float(client.get_run(run_id).data.metrics.get(name, float("nan")))

    def params(self, run_id: str) -> dict[str, str]:
        """Return the parameters of a run, name to text."""
        client = self.client()
        with explained(f"run {run_id}"):
            return dict(client.get_run(run_id).data.params)

    def read_file(self, run_id: str, name: str) -> str:
        """Return a text artifact of a run."""
        return self.read_bytes(run_id, name).decode()

    def read_bytes(self, run_id: str, name: str) -> bytes:
        """Return an artifact of a run."""
        import mlflow

        client = self.client()
        with explained(f"{name} of run {run_id}"), tempfile.TemporaryDirectory() as folder, quiet():
            # By its own address: asked for by run and name, MLflow 3 answers nothing instead of raising an error.
            address = f"{client.get_run(run_id).info.artifact_uri}/{name}"
            file = mlflow.artifacts.download_artifacts(address, dst_path=folder, tracking_uri=self.tracking_uri)
            return Path(file).read_bytes()

    def address(self, run_id: str, name: str) -> str:
        """Return where an artifact of a run is: the path of its file on this machine, else MLflow's address of it."""
        client = self.client()
        with explained(f"run {run_id}"):
            address = f"{client.get_run(run_id).info.artifact_uri}/{name}"
        return unquote(urlsplit(address).path) if address.startswith("file:") else address

    def load(self, version: Version) -> Any:
        """Load the version's scikit-learn pipeline."""
        import mlflow

        self.client()
        with explained(f"loading {version.uri}"), quiet():
            return mlflow.sklearn.load_model(version.uri)

    def input_schema(self, version: Version) -> dict[str, str]:
        """Return the model's inputs: name to MLflow type."""
        return self._info(version)[0]

    def metadata(self, version: Version) -> dict[str, Any]:
        """Return the metadata that `log_model` was given."""
        return self._info(version)[1]

    def _info(self, version: Version) -> tuple[dict[str, str], dict[str, Any]]:
        if version.uri not in self._infos:
            from mlflow.models import get_model_info

            self.client()
            with explained(f"reading the signature of {version.uri}"), quiet():
                info = get_model_info(version.uri)
            inputs = info.signature.inputs.to_dict() if info.signature else []
            schema = {column["name"]: str(column["type"]) for column in inputs}
            self._infos[version.uri] = schema, dict(info.metadata or {})
        return self._infos[version.uri]


def _version(found: ModelVersion) -> Version:
    return Version(found.name, int(found.version), str(found.run_id), dict(found.tags or {}))
