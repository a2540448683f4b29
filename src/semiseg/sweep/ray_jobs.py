"""Jobs of a sweep as tasks on a Ray cluster. Does not import torch; Ray is imported on use."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from semiseg.errors import InputError
from semiseg.sweep.extras import import_extra
from semiseg.sweep.jobs import GRACE, Job, Node, Outcome, outcome
from semiseg.sweep.processes import run_processes, terminate_as_interrupt

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Resources:
    """Resources of each process of a run.

    Attributes:
        cpus: cores.
        gpus: GPUs, for runs that use them; a fraction lets runs share one.
        memory_gb: memory reserved on each node of a run; None reserves none.
    """

    cpus: float = 1.0
    gpus: float = 1.0
    memory_gb: float | None = None

    def of(self, job: Job, cluster_has_gpus: bool) -> dict[str, float]:
        """Options of the Ray task that is one node's part of a job."""
        found = {"num_cpus": self.cpus * job.devices}
        if job.on_gpu and cluster_has_gpus:
            found["num_gpus"] = self.gpus * job.devices
        if self.memory_gb is not None:
            found["memory"] = self.memory_gb * 2**30
        return found


@dataclass
class Flight:
    """A submitted job. ``refs``: pending results; ``group``: its placement group, if it needs several bundles."""

    job: Job
    attempt: int
    refs: list[Any] = field(default_factory=list)
    group: Any = None
    placing: bool = False
    errors: list[str | None] = field(default_factory=list)
    lost: str | None = None


def import_ray() -> Any:
    """Ray, without its usage reports.

    Raises:
        InputError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    return import_extra("ray", "hydra/launcher=ray", "ray")


def run_part(job: Job, cwd: str, node: Node | None = None) -> str | None:
    """In a Ray worker: run a job, or one node's part of it; returns its error, or None on success."""
    if os.path.isdir(cwd):
        os.chdir(cwd)
    (found,) = run_processes([job], [{}], node=node)
    if found.status in ("completed", "pruned"):
        return None
    return found.error or found.status


def meeting_point() -> str:
    """In a Ray worker on the first node of a job: its rendezvous address."""
    import ray

    with socket.socket() as s:
        s.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{s.getsockname()[1]}"


class RayJobs:
    """Runs jobs on a Ray cluster; a job whose node is lost resumes on another node, from its run folder.

    Args:
        address: ``local`` for a cluster with only this machine, ``auto`` for the cluster it belongs to, or an address.
        resources: resources of each process.
        n_jobs: jobs at a time; None for as many as fit.
        retries: how often a job may lose its node.

    Raises:
        InputError: the cluster cannot be reached.
    """

    def __init__(
        self, address: str, resources: Resources | None = None, *, n_jobs: int | None = None, retries: int = 3
    ) -> None:
        self.ray = import_ray()
        self.resources, self.n_jobs, self.retries = resources or Resources(), n_jobs, retries
        self.own = not self.ray.is_initialized()
        if self.own:
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
            if address == "local":
                quiet["include_dashboard"] = False
            try:
                self.ray.init(address=address, **quiet)
            except (ConnectionError, ValueError, RuntimeError) as e:
                line = str(e).splitlines()[0] if str(e) else type(e).__name__
                raise InputError(f"hydra.launcher.address={address}: {line}") from e
        self.has_gpus = self.ray.cluster_resources().get("GPU", 0) > 0
        self._part = self.ray.remote(max_retries=0)(run_part)
        self._meet = self.ray.remote(max_retries=0, num_cpus=0)(meeting_point)

    def run(self, jobs: Sequence[Job]) -> list[Outcome]:
        """Run jobs; a failed job does not stop the others.

        Raises:
            KeyboardInterrupt: on SIGINT or SIGTERM, once every job has written its checkpoint and ended.
        """
        waiting, flights = list(jobs), list[Flight]()
        outcomes: dict[Job, Outcome] = {}
        log.info("%d job(s) for Ray: %s", len(jobs), _listed(self.ray.cluster_resources()))
        try:
            with terminate_as_interrupt():
                while waiting or flights:
                    while waiting and (self.n_jobs is None or len(flights) < self.n_jobs):
                        flights.append(self._start(Flight(waiting.pop(0), 1)))
                    for flight in self._landed(flights):
                        flights.remove(flight)
                        if flight.lost and flight.attempt <= self.retries:
                            log.warning("%s: %s; resumes on another node", flight.job.name, flight.lost)
                            flights.append(self._start(Flight(flight.job, flight.attempt + 1)))
                            continue
                        error = flight.lost or next((e for e in flight.errors if e), None)
                        outcomes[flight.job] = outcome(flight.job, error)
                        log.info("[%d/%d] %s", len(outcomes), len(jobs), outcomes[flight.job])
        except KeyboardInterrupt:
            log.info("stopping %d job(s); Ctrl-C again exits without waiting for them", len(flights))
            self._cancel([ref for flight in flights for ref in flight.refs])
            raise
        finally:
            for flight in flights:
                self._leave(flight)
        return [outcomes[job] for job in jobs]

    def close(self) -> None:
        """Disconnect from the cluster; a local cluster is shut down."""
        if self.own:
            self.ray.shutdown()

    # -- one job ----------------------------------------------------------------------------------------------

    def _start(self, flight: Flight) -> Flight:
        job, needs = flight.job, self.resources.of(flight.job, self.has_gpus)
        if job.nodes * job.devices == 1:
            flight.refs = [self._part.options(**needs).remote(job, os.getcwd())]
            return flight
        names = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
        bundle = {names[key]: value for key, value in needs.items()}
        # All processes on a node share one bundle; each bundle is on a different node.
        strategy = "STRICT_PACK" if job.nodes == 1 else "STRICT_SPREAD"
        flight.group = self.ray.util.placement_group([bundle] * job.nodes, strategy=strategy)
        if job.nodes == 1:
            flight.refs = [self._placed(flight, 0, self._part, needs).remote(job, os.getcwd())]
        else:
            flight.placing, flight.refs = True, [self._placed(flight, 0, self._meet, {}).remote()]
        return flight

    def _placed(self, flight: Flight, number: int, function: Any, needs: dict[str, float]) -> Any:
        place = self.ray.util.scheduling_strategies.PlacementGroupSchedulingStrategy(
            placement_group=flight.group, placement_group_bundle_index=number
        )
        return function.options(scheduling_strategy=place, **needs)

    def _landed(self, flights: Sequence[Flight]) -> list[Flight]:
        """Wait briefly; returns the jobs that have ended, successfully or not."""
        refs = {ref: flight for flight in flights for ref in flight.refs}
        done, _ = self.ray.wait(list(refs), num_returns=len(refs), timeout=0.5)
        for ref in done:
            flight = refs[ref]
            if ref in flight.refs:
                flight.refs.remove(ref)
                self._take(flight, ref)
        return [flight for flight in flights if not flight.refs and self._leave(flight)]

    def _take(self, flight: Flight, ref: Any) -> None:
        errors = self.ray.exceptions
        try:
            found = self.ray.get(ref)
        except (errors.RayTaskError, errors.TaskCancelledError) as e:
            flight.errors.append(str(e).strip().splitlines()[-1])
        except errors.RayError as e:  # the worker, its node, or its memory is gone
            flight.lost = f"{type(e).__name__} ({str(e).strip().splitlines()[0][:150]})"
            self._cancel(flight.refs)
            flight.refs = []
        else:
            if flight.placing:
                flight.placing, cwd = False, os.getcwd()
                needs = self.resources.of(flight.job, self.has_gpus)
                flight.refs = [
                    self._placed(flight, n, self._part, needs).remote(flight.job, cwd, Node(n, found))
                    for n in range(flight.job.nodes)
                ]
            else:
                flight.errors.append(found)

    def _cancel(self, refs: Sequence[Any]) -> None:
        """Interrupt tasks, and wait for the checkpoints of their runs."""
        for ref in refs:
            self.ray.cancel(ref, force=False)
        if refs:
            self.ray.wait(list(refs), num_returns=len(refs), timeout=GRACE)

    def _leave(self, flight: Flight) -> bool:
        if flight.group is not None:
            self.ray.util.remove_placement_group(flight.group)
            flight.group = None
        return True


def _listed(resources: dict[str, float]) -> str:
    known = [f"{resources[key]:g} {key}" for key in ("CPU", "GPU") if resources.get(key)]
    nodes = sum(key.startswith("node:") and key != "node:__internal_head__" for key in resources)
    return ", ".join([f"{nodes} node(s)", *known])
