"""The abstract task: a typed configuration and a session in, a typed result out."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from booking_mlops.io.machine import Machine
from booking_mlops.session import Session

ConfigT = TypeVar("ConfigT")
ResultT = TypeVar("ResultT", bound="Result")


class Result(ABC):
    """What a task did, for people and for other programs."""

    @abstractmethod
    def summary(self) -> list[tuple[str, str]]:
        """Return label and value of each line of the closing summary."""

    @property
    def page(self) -> tuple[str, str] | None:
        """The page the task made for people, if any: the MLflow run and the artifact's name."""
        return None


class Task(ABC, Generic[ConfigT, ResultT]):
    """A step of the pipeline: its command, its help, the class of its configuration, and `run`."""

    name: ClassVar[str]
    help: ClassVar[str]
    config_type: ClassVar[type]

    def __init__(self, config: ConfigT, session: Session) -> None:
        self.config = config
        self.session = session
        self.log = logging.getLogger(f"booking_mlops.{self.key()}")

    @classmethod
    def key(cls) -> str:
        """Return the task's key in YAML, such as `model_train`."""
        return cls.name.replace("-", "_")

    @classmethod
    def input_bytes(cls, config: ConfigT, machine: Machine) -> int:  # noqa: ARG003 (a task may need it)
        """Return at most how many bytes the task reads on a laptop: Spark is set up for that."""
        return machine.table_bytes()

    @abstractmethod
    def run(self) -> ResultT:
        """Do the task's work."""
