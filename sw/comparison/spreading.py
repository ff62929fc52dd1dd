"""Runs on the workers of a Dask cluster: here, or wherever a scheduler has some."""

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from logging import CRITICAL
from typing import TYPE_CHECKING, Any

from hdl.console import RefusedError

from ..data import Dataset
from .cache import Cache
from .contender import Run
from .execution import Outcome, execute, fingerprint, key

if TYPE_CHECKING:
    from distributed import Client, Future

# Seconds to wait for a scheduler, and for its first worker.
PATIENCE = 30

# Dask's own command does not find the modules of the folder that it is started in.
WORKER = ".venv/bin/python -m distributed.cli.dask_worker"


@contextmanager
def cluster(scheduler: str | None, *, workers: int) -> "Iterator[Client]":
    """A client of the scheduler at this address, or of new processes of one thread each on this machine.

    Raises
    ------
    RefusedError
        If no scheduler answers, or it has no workers.
    """
    from distributed import Client, LocalCluster

    if scheduler is None:
        with _interrupts_ignored():
            local = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=None,
                dashboard_address="127.0.0.1:0",
                silence_logs=CRITICAL,
            )
        with local, Client(local) as client:
            yield client
        return
    try:
        client = Client(scheduler, timeout=PATIENCE)
    except (OSError, ValueError) as error:
        raise RefusedError(
            f"--scheduler must be the address of a Dask scheduler, not {scheduler!r}"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError as error:
            raise RefusedError(
                f"--scheduler must have workers; in this folder: {WORKER} {scheduler} --nthreads 1"
            ) from error
        yield client


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Processes started meanwhile do not hear Ctrl-C, which a terminal sends to all: this one ends them."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def outcomes(
    runs: Sequence[Run],
    dataset: Dataset,
    *,
    cache: Cache,
    connect: "Callable[[], AbstractContextManager[Client]]",
) -> Iterator[tuple[Run, Outcome]]:
    """Each run with its outcome as soon as it is known: those that are kept first.

    Runs must come after those they start from.  A worker needs this program, and no data: it is sent.

    Parameters
    ----------
    connect
        Gives a client of the workers; called if there is anything to train.
    """
    data = fingerprint(dataset)
    # Contenders of another name may be the same run: it is made once.
    same: dict[str, list[Run]] = {}
    for run in runs:
        same.setdefault(key(run, data), []).append(run)
    kept = {name: outcome for name in same if (outcome := cache.find(name)) is not None}
    for name, outcome in kept.items():
        yield from ((run, outcome) for run in same[name])
    if len(kept) == len(same):
        return
    with connect() as client:
        first = {name: each[0] for name, each in same.items()}
        for name, outcome in _trained(first, dataset, data, kept, cache, client):
            yield from ((run, outcome) for run in same[name])


def _trained(
    runs: dict[str, Run],
    dataset: Dataset,
    data: str,
    kept: dict[str, Outcome],
    cache: Cache,
    client: "Client",
) -> Iterator[tuple[str, Outcome]]:
    """The keys of the runs that are not kept, with their outcomes, as they end."""
    from distributed import as_completed

    try:
        sent = client.scatter(dataset, broadcast=True)
    except Exception as error:  # whatever a worker raised comes as a plain exception
        raise RefusedError(f"workers must be started in this folder with its Python: {error}") from error
    futures: dict[str, Future[Any]] = {}
    for rank, (name, run) in enumerate(runs.items()):
        if name in kept:
            continue
        start: Any = None
        if run.start is not None:
            before = key(run.start, data)
            start = futures.get(before) or cache.with_network(before, kept[before])
        futures[name] = client.submit(execute, run, sent, start, key=f"compare-{rank}-{name}", priority=-rank)
    names = {future: name for name, future in futures.items()}
    for future in as_completed(list(names)):
        name, outcome = names[future], _outcome(future)
        cache.keep(name, runs[name], outcome)
        yield name, outcome


def _outcome(future: "Future[Any]") -> Outcome:
    """Of a run whose worker may have died."""
    if future.status == "finished":
        result = future.result()
        assert isinstance(result, Outcome)
        return result
    error = future.exception() if future.status == "error" else None
    return Outcome(
        facts={}, failed=f"{type(error).__name__}: {error}" if error else f"run was {future.status}"
    )
