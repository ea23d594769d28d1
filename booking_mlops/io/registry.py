"""MLflow: the experiment and the model registry; one class covers the three kinds of registry.

The workspace registry (`databricks`) has stages and no aliases, Unity Catalog (`databricks-uc`) has
aliases and no stages, every other server has both.
"""

from __future__ import annotations

import io
import logging
import os
import re
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from booking_mlops.errors import NoChampion, RegistryError
from booking_mlops.io.machine import Machine

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.tracking import MlflowClient

log = logging.getLogger(__name__)

CHAMPION = "champion"
CHALLENGER = "challenger"
PRODUCTION = "Production"
# Tags of a version: the Delta versions it was trained on, and on how many rows.
FEATURES_VERSION_TAG = "features_version"
LABELS_VERSION_TAG = "labels_version"
TRAINING_ROWS_TAG = "training_rows"


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


@contextmanager
def _explained(doing: str) -> Iterator[None]:
    """Turn MLflow's and the network's errors into one line that says what was being done."""
    import requests
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, requests.RequestException, OSError) as error:
        text = [_without_secrets(line) for line in str(error).strip().splitlines()]
        raise RegistryError(f"{doing}: {text[0][:500] if text else type(error).__name__}") from error


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

    def client(self) -> MlflowClient:
        """Return MLflow's client, made on first use; create the local store when there is none."""
        if self._client is None:
            import mlflow

            if self.tracking_uri == self._machine.tracking_uri:
                self._machine.lake.mkdir(parents=True, exist_ok=True)
            with _own_environment():
                mlflow.set_tracking_uri(self.tracking_uri)
                mlflow.set_registry_uri(self.registry_uri)
            with (
                _explained(f"tracking server {_without_secrets(self.tracking_uri)}"),
                _own_logging(),
                _without_stray_folder(),
            ):
                self._client = mlflow.MlflowClient(self.tracking_uri, self.registry_uri)
        return self._client

    def experiment_id(self) -> str:
        """Return the experiment's id; create the experiment when it is not there."""
        from mlflow.exceptions import MlflowException

        client = self.client()
        with _explained(f"experiment {self.experiment}"):
            found = client.get_experiment_by_name(self.experiment)
            if found is None:
                local = self.tracking_uri == self._machine.tracking_uri
                location = self._machine.artifacts.as_uri() if local else None
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
        with _explained(f"starting a run of experiment {self.experiment}"):
            started = mlflow.start_run(experiment_id=experiment_id, run_name=name, tags=dict(tags))
        try:
            yield started.info.run_id
        except BaseException:
            # The error that stopped the run matters more than a server that can't be told of it.
            with suppress(RegistryError), _explained("ending the run"):
                mlflow.end_run("FAILED")
            raise
        with _explained(f"ending run {started.info.run_id}"):
            mlflow.end_run()

    def log_metrics(self, metrics: Mapping[str, float], params: Mapping[str, Any]) -> None:
        """Log metrics and parameters to the active run; metrics that are not finite numbers are left out."""
        import math

        import mlflow

        with _explained("logging to the run"):
            mlflow.log_params(dict(params))
            mlflow.log_metrics({name: value for name, value in metrics.items() if math.isfinite(value)})

    def log_files(self, files: Mapping[str, str | bytes]) -> None:
        """Log artifacts, path to content, to the active run."""
        import mlflow

        with tempfile.TemporaryDirectory() as folder, _explained("logging artifacts to the run"):
            for name, content in files.items():
                target = Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.encode() if isinstance(content, str) else content)
            mlflow.log_artifacts(folder)

    def log_model(self, model: Any, example: pd.DataFrame, probabilities: Any, metadata: Mapping[str, Any]) -> None:
        """Log the fitted pipeline as the active run's artifact `model`, with signature and input example.

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
        with _explained("logging the model"), _quiet():
            mlflow.sklearn.log_model(
                model,
                artifact_path="model",
                signature=infer_signature(example, probabilities),
                input_example=example,
                pip_requirements=requirements,
                pyfunc_predict_fn="predict_proba",
                metadata=dict(metadata),
            )

    def register(self, run_id: str, tags: Mapping[str, str]) -> Version:
        """Register the run's artifact `model` as a new version, aliased `challenger` where there are aliases."""
        import mlflow

        with _explained(f"registering {self.model_name}"), _quiet():
            made = mlflow.register_model(f"runs:/{run_id}/model", self.model_name, tags=dict(tags))
            if self.has_aliases:
                self.client().set_registered_model_alias(self.model_name, CHALLENGER, made.version)
        return _version(made)

    def version(self, number: int) -> Version:
        """Return a registered version.

        Raises: RegistryError when it does not exist.
        """
        client = self.client()
        with _explained(f"{self.model_name} version {number}"):
            return _version(client.get_model_version(self.model_name, str(number)))

    def versions(self) -> list[Version]:
        """Return every registered version, oldest first."""
        client = self.client()
        found: list[Version] = []
        token = None
        with _explained(f"versions of {self.model_name}"):
            while True:
                page = client.search_model_versions(f"name = '{self.model_name}'", page_token=token)
                found.extend(_version(item) for item in page)
                token = page.token
                if not token:
                    return sorted(found, key=lambda version: version.number)

    def champion(self) -> Version | None:
        """Return the version that is champion, if any: by alias, or by stage where there are no aliases."""
        from mlflow.exceptions import MlflowException

        client = self.client()
        with _explained(f"champion of {self.model_name}"):
            try:
                if self.has_aliases:
                    return _version(client.get_model_version_by_alias(self.model_name, CHAMPION))
                with _quiet():
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
        client = self.client()
        with _explained(f"promoting {self.model_name} version {number}"), _quiet():
            if self.has_stages:
                current = client.get_model_version(self.model_name, str(number)).current_stage
                if current != PRODUCTION:
                    client.transition_model_version_stage(
                        self.model_name, str(number), PRODUCTION, archive_existing_versions=True
                    )
            if self.has_aliases:
                client.set_registered_model_alias(self.model_name, CHAMPION, str(number))

    def metric(self, run_id: str, name: str) -> float:
        """Return a metric of a run; NaN when the run has none of that name."""
        client = self.client()
        with _explained(f"run {run_id}"):
            return float(client.get_run(run_id).data.metrics.get(name, float("nan")))

    def params(self, run_id: str) -> dict[str, str]:
        """Return the parameters of a run, name to text."""
        client = self.client()
        with _explained(f"run {run_id}"):
            return dict(client.get_run(run_id).data.params)

    def read_file(self, run_id: str, name: str) -> str:
        """Return a text artifact of a run."""
        return self.read_bytes(run_id, name).decode()

    def read_bytes(self, run_id: str, name: str) -> bytes:
        """Return an artifact of a run."""
        client = self.client()
        with tempfile.TemporaryDirectory() as folder, _explained(f"{name} of run {run_id}"), _quiet():
            return Path(client.download_artifacts(run_id, name, folder)).read_bytes()

    def load(self, version: Version) -> Any:
        """Load the version's scikit-learn pipeline."""
        import mlflow

        self.client()
        with _explained(f"loading {version.uri}"), _quiet():
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
            with _explained(f"reading the signature of {version.uri}"), _quiet():
                info = get_model_info(version.uri)
            inputs = info.signature.inputs.to_dict() if info.signature else []
            schema = {column["name"]: str(column["type"]) for column in inputs}
            self._infos[version.uri] = schema, dict(info.metadata or {})
        return self._infos[version.uri]


def _version(found: ModelVersion) -> Version:
    return Version(found.name, int(found.version), str(found.run_id), dict(found.tags or {}))


def _without_secrets(text: str) -> str:
    """Return the text without the user and password that its URIs may carry."""
    return re.sub(r"://[^/\s@]+@", "://", text)


@contextmanager
def _own_environment() -> Iterator[None]:
    """Restore the operator's variables afterwards: MLflow overwrites them with its own settings."""
    names = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI")
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _own_logging() -> Iterator[None]:
    """Restore the program's logging afterwards: creating MLflow's database replaces it by Alembic's."""
    root, database = logging.getLogger(), logging.getLogger("alembic")
    before = root.handlers[:], root.level
    try:
        with redirect_stderr(io.StringIO()):
            yield
    finally:
        root.handlers[:], level = before
        root.setLevel(level)
        database.handlers.clear()
        database.setLevel(logging.ERROR)


@contextmanager
def _without_stray_folder() -> Iterator[None]:
    """Remove the empty folder that MLflow creates in the working directory, wherever artifacts really go."""
    folder = Path("mlruns")
    own = folder.exists()
    yield
    if not own:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence MLflow's advice on stages, integers and pickles, and what it prints while it registers."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
